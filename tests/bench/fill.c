/* SPDX-License-Identifier: MIT */
/*
 * fill - years of use in some minutes: users and events into a database that a server has made.
 *
 *     fill DATABASE SEED USERS EVENTS
 *
 * No server may be running. Event n < USERS is the creation of user n of the seed (traffic.h), so that
 * load can update those users or deliver their creation once more; the others are updates, of all
 * users in turn. They are spread over the last 99 days; as the server's retention would have it,
 * only those of the last 29 have their payload still. Each user has one todo list.
 *
 * Nothing is synced until the end: a file that a crash leaves behind is to be thrown away.
 */
#include "traffic.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHUNK = 100000 };

static const int64_t day_ms = 86400000;

static sqlite3 *db;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "fill: %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static void execute(const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sql);
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *stmt;

    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
        die(sql);
    return stmt;
}

static void run(sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE)
        die(sqlite3_sql(stmt));
    sqlite3_reset(stmt);
}

static void bind(sqlite3_stmt *stmt, int parameter, const char *text, size_t len)
{
    sqlite3_bind_text(stmt, parameter, text, (int)len, SQLITE_STATIC);
}

/* The first string member of the body with this name, behind from; writes what is in its quotes. */
static size_t member(const char *from, const char *name, const char **out)
{
    char quoted[64];
    const char *at;

    snprintf(quoted, sizeof(quoted), "\"%s\":\"", name);
    at = strstr(from, quoted);
    if (!at)
        abort(); /* traffic.c writes them all */
    *out = at + strlen(quoted);
    return strcspn(*out, "\"");
}

static void bind_member(sqlite3_stmt *stmt, int parameter, const char *from, const char *name)
{
    const char *at;
    size_t len = member(from, name, &at);

    bind(stmt, parameter, at, len);
}

static void put_user(sqlite3_stmt *stmt, const char *body, int64_t ms)
{
    static const char *const columns[] = {"id",
                                          "email",
                                          "name",
                                          "first_name",
                                          "last_name",
                                          "profile_picture_url",
                                          "last_sign_in_at",
                                          "external_id",
                                          "locale",
                                          "created_at",
                                          "updated_at"};
    const char *data = strstr(body, "\"data\":") + strlen("\"data\":");
    const char *end = strstr(data, ",\"event\":");

    for (int i = 0; i < (int)(sizeof(columns) / sizeof(columns[0])); i++)
        bind_member(stmt, i + 1, data, columns[i]);
    bind(stmt, 12, data, (size_t)(end - data));
    sqlite3_bind_int64(stmt, 13, ms * 1000);
    bind_member(stmt, 14, body, "id");
    run(stmt);
}

static void put_event(sqlite3_stmt *stmt, const char *body, size_t len, int64_t ms, bool is_recent)
{
    const char *data = strstr(body, "\"data\":");
    const char *created_at = strstr(body, "\"actor\":");

    bind_member(stmt, 1, body, "id");
    bind_member(stmt, 2, body, "event");
    bind_member(stmt, 3, data, "id");
    bind_member(stmt, 4, created_at, "created_at");
    sqlite3_bind_int64(stmt, 5, ms);
    if (is_recent)
        bind(stmt, 6, body, len);
    else
        sqlite3_bind_null(stmt, 6);
    sqlite3_bind_int64(stmt, 7, ms * 1000);
    run(stmt);
}

static void fill(const char *seed, uint64_t users, uint64_t events)
{
    sqlite3_stmt *user = prepare(
        "INSERT INTO workos_users (id, email, name, first_name, last_name, profile_picture_url,"
        " last_sign_in_at, external_id, locale, created_at, updated_at, raw, _version_us,"
        " _event_id, email_verified, metadata)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, '{\"plan\":\"team\"}')");
    sqlite3_stmt *event = prepare(
        "INSERT INTO workos_events (id, event, object_id, user_id, created_at, received_at, status,"
        " attempts, payload, _created_us) VALUES (?1, ?2, ?3, ?3, ?4, ?5, 'done', 1, ?6, ?7)");
    sqlite3_stmt *list = prepare("INSERT INTO todo_lists (_creation_time, name, user_id)"
                                 " VALUES (?, 'Ada''s Todo List', ?)");
    int64_t now_ms = (int64_t)time(NULL) * 1000, start_ms = now_ms - 99 * day_ms;

    for (uint64_t n = 0; n < events; n++) {
        int64_t ms = start_ms + (int64_t)((double)n / (double)events * 99 * (double)day_ms);
        char body[TRAFFIC_BODY_MAX], id[TRAFFIC_ID_MAX];
        uint64_t who = n < users ? n : traffic_scatter(n, users);
        size_t len = n < users ? traffic_created(seed, who, ms, body)
                               : traffic_updated(seed, who, n, ms, body);

        if (n % CHUNK == 0) {
            execute(n == 0 ? "BEGIN" : "COMMIT; BEGIN");
            fprintf(stderr, "\rfilling: %" PRIu64 " of %" PRIu64 " events", n, events);
        }
        put_event(event, body, len, ms, ms > now_ms - 29 * day_ms);
        if (n >= users)
            continue;
        traffic_user_id(seed, who, id);
        put_user(user, body, ms);
        sqlite3_bind_int64(list, 1, ms);
        bind(list, 2, id, strlen(id));
        run(list);
    }
    execute("COMMIT");
    sqlite3_finalize(user);
    sqlite3_finalize(event);
    sqlite3_finalize(list);
    fputs("\r\033[K", stderr);
}

int main(int argc, char **argv)
{
    if (argc != 5 || strlen(argv[2]) != TRAFFIC_SEED_CHARS) {
        fputs("usage: fill DATABASE SEED USERS EVENTS\n", stderr);
        return 2;
    }
    if (sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        die(argv[1]);
    execute("PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "PRAGMA cache_size = -1000000; PRAGMA locking_mode = EXCLUSIVE");
    fill(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    execute("PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL");
    if (sqlite3_close(db) != SQLITE_OK)
        die("close");
    return 0;
}
