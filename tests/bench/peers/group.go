// SPDX-License-Identifier: MIT
//
// The strongest of what people would write themselves: Go's net/http, SQLite by mattn/go-sqlite3, and
// group commit: one goroutine writes, and takes what has gathered as one transaction. The same durable
// work as every peer: verify, deduplicate by event id, put the user, add a todo list for a new one,
// COMMIT, 200.
//
// What it doesn't do, and authkitd does: keep the payload; isolate a handler's failure, or one event
// from another by a savepoint; hold events of one user in order; tombstones; erase; survive a full disk.
//
// usage: group PORT DATABASE SQL
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	webhookSecret = "whsec_0FWAiVGkEfGBqqsJH4aNAGBJ4"
	actionSecret  = "actsec_9fTq2LmVbXcRzYhKsWnDpEgUj"
	tolerance     = 180 * time.Second
	batchMax      = 256
	bodyMax       = 1 << 20
)

type event struct {
	ID    string `json:"id"`
	Event string `json:"event"`
	Data  struct {
		ID         string  `json:"id"`
		Email      string  `json:"email"`
		FirstName  *string `json:"first_name"`
		LastName   *string `json:"last_name"`
		ExternalID *string `json:"external_id"`
		CreatedAt  string  `json:"created_at"`
		UpdatedAt  string  `json:"updated_at"`
	} `json:"data"`
}

type job struct {
	event *event
	done  chan error
}

type writer struct {
	conn                                             *sql.Conn
	begin, commit, rollback, addEvent, putUser, list *sql.Stmt
	jobs                                             chan job
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func openWriter(path, sqlPath string) *writer {
	text, err := os.ReadFile(sqlPath)
	must(err)
	db, err := sql.Open("sqlite3", path)
	must(err)
	conn, err := db.Conn(context.Background())
	must(err)
	_, err = conn.ExecContext(context.Background(), string(text))
	must(err)
	prepare := func(text string) *sql.Stmt {
		stmt, err := conn.PrepareContext(context.Background(), text)
		must(err)
		return stmt
	}
	return &writer{
		conn:     conn,
		begin:    prepare("BEGIN IMMEDIATE"),
		commit:   prepare("COMMIT"),
		rollback: prepare("ROLLBACK"),
		addEvent: prepare("INSERT INTO events (id, event, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
		putUser: prepare("INSERT INTO users (id, email, first_name, last_name, external_id, created_at, updated_at)" +
			" VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET email = excluded.email," +
			" first_name = excluded.first_name, last_name = excluded.last_name," +
			" external_id = excluded.external_id, updated_at = excluded.updated_at" +
			" WHERE excluded.updated_at >= updated_at"),
		list: prepare("INSERT INTO todo_lists (name, user_id) VALUES (?, ?)"),
		jobs: make(chan job, 4096),
	}
}

func (w *writer) store(e *event) error {
	result, err := w.addEvent.Exec(e.ID, e.Event, time.Now().UnixMilli())
	if err != nil {
		return err
	}
	if added, _ := result.RowsAffected(); added == 0 {
		return nil // a duplicate
	}
	d := &e.Data
	if _, err = w.putUser.Exec(d.ID, d.Email, d.FirstName, d.LastName, d.ExternalID, d.CreatedAt, d.UpdatedAt); err != nil {
		return err
	}
	if e.Event != "user.created" {
		return nil
	}
	name := "My Todo List"
	if d.FirstName != nil {
		name = *d.FirstName + "'s Todo List"
	}
	_, err = w.list.Exec(name, d.ID)
	return err
}

func (w *writer) storeAll(batch []job) error {
	if _, err := w.begin.Exec(); err != nil {
		return err
	}
	for _, j := range batch {
		if err := w.store(j.event); err != nil {
			w.rollback.Exec()
			return err
		}
	}
	_, err := w.commit.Exec()
	if err != nil {
		w.rollback.Exec()
	}
	return err
}

// A batch is what has gathered while the last one was committed.
func (w *writer) run() {
	batch := make([]job, 0, batchMax)
	for {
		batch = append(batch[:0], <-w.jobs)
	gather:
		for len(batch) < batchMax {
			select {
			case j := <-w.jobs:
				batch = append(batch, j)
			default:
				break gather
			}
		}
		err := w.storeAll(batch)
		for _, j := range batch {
			j.done <- err
		}
	}
}

func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, timestamp)
	io.WriteString(mac, ".")
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func isGenuine(header, secret string, body []byte) bool {
	t, v1, found := strings.Cut(header, ",")
	t = strings.TrimPrefix(strings.TrimSpace(t), "t=")
	v1 = strings.TrimPrefix(strings.TrimSpace(v1), "v1=")
	ms, err := strconv.ParseInt(t, 10, 64)
	if !found || err != nil || time.Since(time.UnixMilli(ms)).Abs() > tolerance {
		return false
	}
	return hmac.Equal([]byte(v1), []byte(sign(secret, t, body)))
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

func readSigned(w http.ResponseWriter, r *http.Request, secret string) []byte {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil || !isGenuine(r.Header.Get("WorkOS-Signature"), secret, body) {
		answer(w, 401, `{"error":"signature"}`)
		return nil
	}
	return body
}

func (w *writer) takeWebhook(out http.ResponseWriter, r *http.Request) {
	body := readSigned(out, r, webhookSecret)
	if body == nil {
		return
	}
	j := job{&event{}, make(chan error, 1)}
	if json.Unmarshal(body, j.event) != nil || j.event.ID == "" || j.event.Data.ID == "" {
		answer(out, 400, `{"error":"not an event"}`)
		return
	}
	w.jobs <- j
	if <-j.done != nil {
		answer(out, 503, `{"error":"not stored"}`)
		return
	}
	answer(out, 200, `{"received":true}`)
}

func decideAction(out http.ResponseWriter, r *http.Request) {
	var action struct {
		UserData struct {
			Email string `json:"email"`
		} `json:"user_data"`
	}
	body := readSigned(out, r, actionSecret)
	if body == nil || json.Unmarshal(body, &action) != nil {
		return
	}
	verdict := "Allow"
	if strings.HasSuffix(action.UserData.Email, "@gmail.com") {
		verdict = "Deny"
	}
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	payload := fmt.Sprintf(`{"timestamp":%s,"verdict":"%s"}`, now, verdict)
	answer(out, 200, fmt.Sprintf(`{"object":"user_registration_action_response","payload":%s,"signature":"%s"}`,
		payload, sign(actionSecret, now, []byte(payload))))
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: group PORT DATABASE SQL")
	}
	w := openWriter(os.Args[2], os.Args[3])
	go w.run()
	http.HandleFunc("/workos/webhook", w.takeWebhook)
	http.HandleFunc("/workos/action", decideAction)
	http.HandleFunc("/healthz", func(out http.ResponseWriter, _ *http.Request) { answer(out, 200, `{"ok":true}`) })
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
