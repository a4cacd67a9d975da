/* SPDX-License-Identifier: MIT */
/*
 * path - the bare prototype: the whole path of a webhook in C on civetweb and SQLite, without Lua.
 *
 *     bench_peer_path PORT THREADS DATABASE SQL
 *
 * It verifies the signature, walks the JSON once, hands the event to the one thread that writes and
 * waits. That thread takes what has gathered as one transaction: the event's id (there already: a
 * duplicate), the user, and, for a new one, a todo list; then COMMIT, and all are answered. SQL is the
 * file with the tables and the PRAGMAs, peer.sql.
 *
 * What it doesn't do, and authkitd does: keep the payload; run a function of somebody's, with limits;
 * isolate one event from another by a savepoint; hold events of one user in order; tombstones; erase
 * (secure_delete); all of the user's members; survive a full disk.
 */
#include "peer.h"

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_MAX = 256, SQL_MAX = 8192 };

struct job {
    struct peer_event event;
    sem_t done;
    bool is_stored;
    struct job *next;
};

static sqlite3 *db;
static sqlite3_stmt *begin, *commit, *rollback, *add_event, *put_user, *add_list;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct job *first, **last = &first; /* guarded by lock */

/* ------------------------------------------------------------------------ statements */

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *stmt;

    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
        fprintf(stderr, "path: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
    return stmt;
}

static void bind(sqlite3_stmt *stmt, int parameter, struct peer_text text)
{
    sqlite3_bind_text(stmt, parameter, text.at, (int)text.len, SQLITE_STATIC);
}

static bool run(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);

    sqlite3_reset(stmt);
    return rc == SQLITE_DONE;
}

static void open_database(const char *path, const char *sql_path)
{
    char sql[SQL_MAX] = "";
    FILE *file = fopen(sql_path, "r");

    if (!file || fread(sql, 1, sizeof(sql) - 1, file) == 0 ||
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "path: cannot open '%s' with '%s'\n", path, sql_path);
        exit(1);
    }
    fclose(file);
    begin = prepare("BEGIN IMMEDIATE");
    commit = prepare("COMMIT");
    rollback = prepare("ROLLBACK");
    add_event = prepare("INSERT INTO events (id, event, received_at) VALUES (?, ?, ?)"
                        " ON CONFLICT DO NOTHING");
    put_user = prepare("INSERT INTO users (id, email, first_name, last_name, external_id,"
                       " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT (id) DO UPDATE SET email = excluded.email,"
                       " first_name = excluded.first_name, last_name = excluded.last_name,"
                       " external_id = excluded.external_id, updated_at = excluded.updated_at"
                       " WHERE excluded.updated_at >= updated_at");
    add_list = prepare("INSERT INTO todo_lists (name, user_id) VALUES (?, ?)");
}

static bool store_event(const struct peer_event *event)
{
    char name[512];

    bind(add_event, 1, event->id);
    bind(add_event, 2, event->event);
    sqlite3_bind_int64(add_event, 3, (sqlite3_int64)time(NULL) * 1000);
    if (!run(add_event))
        return false;
    if (sqlite3_changes(db) == 0)
        return true; /* a duplicate */
    bind(put_user, 1, event->user_id);
    bind(put_user, 2, event->email);
    bind(put_user, 3, event->first_name);
    bind(put_user, 4, event->last_name);
    bind(put_user, 5, event->external_id);
    bind(put_user, 6, event->created_at);
    bind(put_user, 7, event->updated_at);
    if (!run(put_user))
        return false;
    if (event->event.len != 12 || memcmp(event->event.at, "user.created", 12) != 0)
        return true;
    snprintf(name, sizeof(name), "%.*s's Todo List", (int)event->first_name.len,
             event->first_name.at ? event->first_name.at : "");
    sqlite3_bind_text(add_list, 1, name, -1, SQLITE_STATIC);
    bind(add_list, 2, event->user_id);
    return run(add_list);
}

/* ------------------------------------------------------------------------ the writer */

static struct job *take_batch(void)
{
    struct job *batch, **end;

    pthread_mutex_lock(&lock);
    while (!first)
        pthread_cond_wait(&wake, &lock);
    batch = first;
    end = &first;
    for (int i = 0; i < BATCH_MAX && *end; i++)
        end = &(*end)->next;
    first = *end;
    if (!first)
        last = &first;
    *end = NULL;
    pthread_mutex_unlock(&lock);
    return batch;
}

/* All or nothing; who gets a 503 delivers again. */
static void store_batch(struct job *batch)
{
    bool ok = run(begin);

    for (struct job *job = batch; ok && job; job = job->next)
        ok = store_event(&job->event);
    if (!ok || !run(commit)) {
        ok = false;
        run(rollback);
    }
    while (batch) {
        struct job *job = batch;

        batch = job->next; /* job is gone once it is told */
        job->is_stored = ok;
        sem_post(&job->done);
    }
}

static void *write_batches(void *unused)
{
    (void)unused;
    for (;;)
        store_batch(take_batch());
    return NULL;
}

static bool take(const char *body, size_t len)
{
    struct job job = {.next = NULL};

    if (!peer_read_event(body, len, &job.event))
        return false;
    sem_init(&job.done, 0, 0);
    pthread_mutex_lock(&lock);
    *last = &job;
    last = &job.next;
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&wake);
    while (sem_wait(&job.done) < 0)
        ;
    sem_destroy(&job.done);
    return job.is_stored;
}

int main(int argc, char **argv)
{
    const struct peer_opts opts = {.take = take};
    pthread_t writer;

    if (argc != 5) {
        fputs("usage: bench_peer_path PORT THREADS DATABASE SQL\n", stderr);
        return 2;
    }
    open_database(argv[3], argv[4]);
    if (pthread_create(&writer, NULL, write_batches, NULL) != 0)
        return 1;
    return peer_serve(atoi(argv[1]), atoi(argv[2]), &opts);
}
