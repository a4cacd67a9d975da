/* SPDX-License-Identifier: MIT */
/*
 * Erased is erased. The same life of a database (users who come, change and are erased) is led on
 * SQLite's own layer and on ours; then the file is searched for what the erased users had left.
 */
#include "store/wipe.h"

#include "base/clock.h"
#include "fault_vfs.h"
#include "store/layer.h"
#include "store/writer.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The tables that hold something personal, with their indexes, as the workos room makes them. */
static const char schema[] =
    "CREATE TABLE events (_seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL,"
    " object_id TEXT, user_id TEXT, status TEXT NOT NULL, last_error TEXT, payload TEXT);"
    "CREATE INDEX events_user_id ON events (user_id) WHERE user_id IS NOT NULL;"
    "CREATE INDEX events_status ON events (status) WHERE status <> 'done';"
    "CREATE TABLE users (id TEXT NOT NULL PRIMARY KEY, email TEXT, name TEXT, external_id TEXT,"
    " metadata TEXT, raw TEXT);"
    "CREATE INDEX users_external_id ON users (external_id) WHERE external_id IS NOT NULL;"
    "CREATE INDEX users_email ON users (email COLLATE NOCASE);";

enum { MARKER_LEN = 7, FIELDS = 4, TEXT_MAX = 20000, EVENTS_PER_USER = 3 };

struct life {
    sqlite3 *db;
    const char *file;
    uint64_t random;
    int users;
    int largest; /* payload; more than a page makes overflow pages */
    bool *erased;
    int event_count;
};

static int below(struct life *l, int n)
{
    return (int)(fault_random(&l->random) % (uint64_t)n);
}

static void check(struct life *l, int rc)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        fail_msg("%s", sqlite3_errmsg(l->db));
}

static void exec(struct life *l, const char *sql)
{
    check(l, sqlite3_exec(l->db, sql, NULL, NULL, NULL));
}

/* "Pnnnnn." again and again: a field of user nnnnn; each kind of field has a letter of its own. */
static const char *text_of(struct life *l, char letter, int user, int min, int max)
{
    static char texts[8][TEXT_MAX + MARKER_LEN + 1];
    static int turn;
    char *text = texts[turn++ % 8];
    int len = min + below(l, max - min + 1);

    for (int at = 0; at < len; at += MARKER_LEN)
        snprintf(text + at, MARKER_LEN + 1, "%c%05u.", letter, (unsigned)user % 100000u);
    text[len] = '\0';
    return text;
}

__attribute__((format(printf, 2, 3))) static void run(struct life *l, const char *format, ...)
{
    va_list values;
    char *sql;

    va_start(values, format);
    sql = sqlite3_vmprintf(format, values);
    va_end(values);
    exec(l, sql);
    sqlite3_free(sql);
}

static void store_event(struct life *l, int user)
{
    int n = ++l->event_count;
    const char *email = text_of(l, 'E', user, 7, 40);

    exec(l, "BEGIN IMMEDIATE");
    run(l,
        "INSERT INTO events (id, event, object_id, user_id, status, payload)"
        " VALUES ('event_%016llx', 'user.updated', 'user_%d', 'user_%d', 'done', '%s')",
        (unsigned long long)fault_random(&l->random), user, user,
        text_of(l, 'P', user, 400, l->largest));
    run(l,
        "INSERT INTO users VALUES ('user_%d', '%s', '%s', '%s', '%s', '%s') ON CONFLICT (id)"
        " DO UPDATE SET email = excluded.email, name = excluded.name,"
        " metadata = excluded.metadata, raw = excluded.raw",
        user, email, text_of(l, 'N', user, 7, 40), text_of(l, 'E', user, 7, 20),
        text_of(l, 'N', user, 10, 100), text_of(l, 'R', user, 250, 900));
    if (below(l, 5) == 0)
        run(l, "UPDATE events SET status = 'failed', last_error = '%0*d' WHERE _seq = %d",
            50 + below(l, 350), 7, 1 + below(l, n));
    if (below(l, 5) == 0)
        run(l, "UPDATE events SET status = 'done', last_error = NULL WHERE _seq = %d",
            1 + below(l, n));
    exec(l, "COMMIT");
}

static void erase(struct life *l, int user)
{
    exec(l, "BEGIN IMMEDIATE");
    run(l, "UPDATE events SET payload = NULL, last_error = NULL WHERE user_id = 'user_%d'", user);
    run(l, "DELETE FROM users WHERE id = 'user_%d'", user);
    exec(l, "COMMIT");
    l->erased[user] = true;
}

static void lead_life(struct life *l)
{
    l->erased = calloc((size_t)l->users, sizeof(*l->erased));
    exec(l, schema);
    for (int i = 0; i < l->users * EVENTS_PER_USER; i++) {
        store_event(l, below(l, l->users));
        if (below(l, 500) == 0)
            exec(l, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
    for (int i = 0; i < l->users / 2; i++)
        erase(l, below(l, l->users));
    exec(l, "PRAGMA wal_checkpoint(TRUNCATE)");
}

static void begin_life(struct life *l, const char *file, const char *vfs, const char *pragmas)
{
    l->file = file;
    assert_int_equal(sqlite3_open_v2(file, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs),
                     SQLITE_OK);
    exec(l, pragmas);
    exec(l, "PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON; PRAGMA synchronous = OFF;"
            "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -1000");
}

static unsigned char *read_file(const char *path, size_t *out_len)
{
    long len = file_size(path);
    unsigned char *bytes = malloc((size_t)len + 1);
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0 && bytes);
    assert_int_equal(read(fd, bytes, (size_t)len), len);
    close(fd);
    *out_len = (size_t)len;
    return bytes;
}

/* How many of the erased users are in the file with something else than their id. */
static int count_residues(const struct life *l, const char *path)
{
    bool *found = calloc((size_t)l->users, sizeof(*found));
    int count = 0;
    size_t len;
    unsigned char *bytes = read_file(path, &len);

    for (size_t i = 0; i + MARKER_LEN <= len; i++) {
        char marker[MARKER_LEN + 1];

        if (!memchr("PENR", bytes[i], FIELDS) || bytes[i + MARKER_LEN - 1] != '.')
            continue;
        memcpy(marker, bytes + i + 1, MARKER_LEN - 2);
        marker[MARKER_LEN - 2] = '\0';
        if (strspn(marker, "0123456789") != MARKER_LEN - 2 || atoi(marker) >= l->users)
            continue;
        found[atoi(marker)] = true;
    }
    for (int i = 0; i < l->users; i++)
        count += l->erased[i] && found[i];
    free(bytes);
    free(found);
    return count;
}

/* Bytes in the unused room of pages that aren't 0. */
static size_t count_stray_bytes(const char *path, size_t page_size)
{
    size_t len, count = 0;
    unsigned char *bytes = read_file(path, &len);

    for (size_t at = 0; at < len; at += page_size) {
        size_t from, to;

        if (!wipe_find_gap(bytes + at, page_size, at == 0 ? 100 : 0, &from, &to))
            continue;
        for (size_t i = from; i < to; i++)
            count += bytes[at + i] != 0;
    }
    free(bytes);
    return count;
}

/* A hash of all rows, to compare. */
static uint64_t hash_of(struct life *l)
{
    static const char *const selects[] = {"SELECT * FROM events ORDER BY _seq",
                                          "SELECT * FROM users ORDER BY id"};
    uint64_t hash = 14695981039346656037u;

    for (int i = 0; i < 2; i++) {
        sqlite3_stmt *stmt = NULL;

        check(l, sqlite3_prepare_v2(l->db, selects[i], -1, &stmt, NULL));
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            for (int column = 0; column < sqlite3_column_count(stmt); column++) {
                const char *text = (const char *)sqlite3_column_text(stmt, column);

                for (; text && *text; text++)
                    hash = (hash ^ (unsigned char)*text) * 1099511628211u;
                hash = (hash ^ (text != NULL)) * 1099511628211u;
            }
        }
        check(l, sqlite3_finalize(stmt));
    }
    return hash;
}

/* Of what is in the file, not in a cache. */
static void check_integrity(struct life *l)
{
    sqlite3_stmt *stmt = NULL;

    sqlite3_close(l->db);
    assert_int_equal(sqlite3_open(l->file, &l->db), SQLITE_OK);
    check(l, sqlite3_prepare_v2(l->db, "PRAGMA integrity_check", -1, &stmt, NULL));
    check(l, sqlite3_step(stmt));
    assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "ok");
    sqlite3_finalize(stmt);
}

static void end_life(struct life *l)
{
    sqlite3_close(l->db);
    free(l->erased);
}

static void remove_database(const char *path)
{
    char other[64];

    unlink(path);
    snprintf(other, sizeof(other), "%s-wal", path);
    unlink(other);
}

/* ---------------------------------------------------------------------------- the tests */

/* Symptom: of 1000 erased users some were still in the file, beside the rows of others. */
static void wipe__erased_users_are_not_in_the_file(void **state)
{
    int residues_of_sqlite = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 10 && residues_of_sqlite == 0; seed++) {
        struct life plain = {.random = seed, .users = 800, .largest = 1500};
        struct life wiped = plain;

        remove_database("plain.db");
        remove_database("wiped.db");
        begin_life(&plain, "plain.db", NULL, "");
        begin_life(&wiped, "wiped.db", layer_name(), "");
        lead_life(&plain);
        lead_life(&wiped);
        residues_of_sqlite += count_residues(&plain, "plain.db");
        assert_int_equal(count_residues(&wiped, "wiped.db"), 0);
        assert_int_equal(count_stray_bytes("wiped.db", 4096), 0);
        check_integrity(&wiped);
        assert_true(hash_of(&plain) == hash_of(&wiped));
        end_life(&plain);
        end_life(&wiped);
    }
    assert_true(residues_of_sqlite > 0); /* else this test shows nothing */
}

static void wipe__any_page_size_is_served(void **state)
{
    static const struct {
        const char *pragma;
        size_t size;
    } sizes[] = {
        {"PRAGMA page_size = 512", 512},
        {"PRAGMA page_size = 1024", 1024},
        {"PRAGMA page_size = 65536", 65536},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct life plain = {.random = i, .users = 150, .largest = TEXT_MAX};
        struct life wiped = plain;

        remove_database("plain.db");
        remove_database("wiped.db");
        begin_life(&plain, "plain.db", NULL, sizes[i].pragma);
        begin_life(&wiped, "wiped.db", layer_name(), sizes[i].pragma);
        lead_life(&plain);
        lead_life(&wiped);
        assert_int_equal(count_residues(&wiped, "wiped.db"), 0);
        assert_int_equal(count_stray_bytes("wiped.db", sizes[i].size), 0);
        check_integrity(&wiped);
        assert_true(hash_of(&plain) == hash_of(&wiped));
        end_life(&plain);
        end_life(&wiped);
    }
}

/* Leaves free pages, whose entries make a pointer map look most like a B-tree. */
static void shrink(struct life *l)
{
    for (int i = 0; i < 50; i++)
        store_event(l, below(l, l->users));
    exec(l, "DELETE FROM events WHERE _seq % 10; PRAGMA wal_checkpoint(TRUNCATE)");
}

/* Its pointer maps can be taken for B-trees. */
static void wipe__auto_vacuum_file_is_left_alone(void **state)
{
    struct life l = {.random = 1, .users = 200, .largest = 6000};

    (void)state;
    begin_life(&l, "a.db", layer_name(),
               "PRAGMA page_size = 512; PRAGMA auto_vacuum = INCREMENTAL");
    lead_life(&l);
    shrink(&l);
    check_integrity(&l);
    end_life(&l);

    /* Also when it becomes one later. */
    l = (struct life){.random = 2, .users = 200, .largest = 6000};
    begin_life(&l, "b.db", layer_name(), "PRAGMA page_size = 512");
    lead_life(&l);
    exec(&l, "PRAGMA auto_vacuum = INCREMENTAL; VACUUM");
    shrink(&l);
    check_integrity(&l);
    end_life(&l);
}

static void wipe__damaged_and_other_pages_have_no_gap(void **state)
{
    unsigned char page[512] = {13, 0, 0, 0, 1, 1, 0xF0, 0, 1, 0xF0};
    size_t from, to;

    (void)state;
    assert_true(wipe_find_gap(page, 512, 0, &from, &to));
    assert_int_equal(from, 10);
    assert_int_equal(to, 0x1F0);
    page[8] = 0; /* a cell before the cells */
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    page[8] = 2; /* or behind the page */
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    page[8] = 1;
    page[4] = 255; /* more pointers than room */
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    page[4] = 1;
    page[2] = 20; /* a free block before the cells */
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    page[2] = 0;
    page[5] = 2; /* cells that begin behind the page */
    page[6] = 1;
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    memset(page, 0, sizeof(page));
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
    page[0] = 10; /* a leaf without a cell, its content begins at the end of 64 KiB */
    assert_false(wipe_find_gap(page, 512, 0, &from, &to));
}

/* The writer's connection is one of these. */
static void wipe__is_what_db_open_uses(void **state)
{
    struct life l = {.random = 4, .users = 300, .largest = 1500};
    struct db *db = NULL;

    (void)state;
    begin_life(&l, "a.db", NULL, ""); /* only to have something in the WAL */
    l.erased = calloc((size_t)l.users, sizeof(*l.erased));
    exec(&l, schema);
    for (int i = 0; i < 900; i++)
        store_event(&l, below(&l, l.users));
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, NULL), 0);
    assert_int_equal(db_checkpoint(db, NULL), 0);
    assert_int_equal(count_stray_bytes("a.db", 4096), 0);
    assert_int_equal(file_size("a.db-wal"), 0);
    db_close(db);
    check_integrity(&l);
    end_life(&l);
}

static int header_rc;

static int read_header(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    (void)file, (void)at;
    memset(out, 0, (size_t)len);
    return header_rc;
}

/* A page with something in its gap, behind the first. */
static void wipe__file_that_cannot_be_asked_is_not_written(void **state)
{
    static const sqlite3_io_methods methods = {.xRead = read_header};
    static unsigned char room[WIPE_PAGE_BYTES];
    unsigned char page[512] = {10, 0, 0, 0, 0, 2, 0}; /* an empty leaf of an index */
    sqlite3_file file = {.pMethods = &methods};
    const void *written = NULL;

    (void)state;
    page[100] = 'x';
    header_rc = SQLITE_IOERR_READ;
    assert_int_equal(wipe_page(&file, page, 512, 512, room, &written), SQLITE_IOERR_READ);
    header_rc = SQLITE_IOERR_SHORT_READ; /* it has no header yet: could be any */
    assert_int_equal(wipe_page(&file, page, 512, 512, room, &written), SQLITE_OK);
    assert_ptr_equal(written, page);
    header_rc = SQLITE_OK;
    assert_int_equal(wipe_page(&file, page, 512, 512, room, &written), SQLITE_OK);
    assert_ptr_equal(written, room);
    assert_int_equal(room[100], 0);
    assert_memory_equal(room, page, 100);
}

static int checkpoint(struct life *l)
{
    return sqlite3_exec(l->db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
}

/* Symptom: page 1 was to be written so that it could be asked, that failed, and the page was taken for one of
 * a file that is to be left alone. */
static void wipe__write_that_fails_once_leaves_no_gap(void **state)
{
    bool is_met = true;

    (void)state;
    for (int writes = 0; is_met; writes++) {
        struct life l = {.random = 5, .users = 100, .largest = 1500};

        remove_database("a.db");
        begin_life(&l, "a.db", layer_name(), "");
        exec(&l, "PRAGMA synchronous = FULL");
        l.erased = calloc((size_t)l.users, sizeof(*l.erased));
        exec(&l, schema);
        for (int i = 0; i < 300; i++)
            store_event(&l, below(&l, l.users));
        atomic_store(&fault_one_write, writes);
        is_met = checkpoint(&l) != SQLITE_OK;
        if (is_met)
            assert_int_equal(sqlite3_errcode(l.db), SQLITE_FULL);
        fault_none();
        check(&l, checkpoint(&l));
        assert_int_equal(count_stray_bytes("a.db", 4096), 0);
        check_integrity(&l);
        end_life(&l);
        assert_true(is_met || writes > 1);
    }
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

static int use_database(void **state)
{
    struct db *db = NULL;

    (void)state;
    if (enter_temp_dir(state) < 0 || db_open(&db, "first.db", DB_WRITER, NULL) < 0)
        return -1;
    db_close(db); /* the layer has been made known */
    return leave_temp_dir(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(wipe__erased_users_are_not_in_the_file),
        IN_TEMP_DIR(wipe__any_page_size_is_served),
        IN_TEMP_DIR(wipe__auto_vacuum_file_is_left_alone),
        IN_TEMP_DIR(wipe__damaged_and_other_pages_have_no_gap),
        cmocka_unit_test(wipe__file_that_cannot_be_asked_is_not_written),
        IN_TEMP_DIR(wipe__is_what_db_open_uses),
        IN_TEMP_DIR(wipe__write_that_fails_once_leaves_no_gap),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("wipe", tests, use_database, NULL);
}
