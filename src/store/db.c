/* SPDX-License-Identifier: MIT */
#include "store/db_state.h"

#include "base/clock.h"
#include "store/layer.h"
#include "store/lease.h"
#include "store/memory.h"
#include "store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BUSY_TIMEOUT_MS = 5000, /* for somebody's sqlite3 shell; nobody else writes */
    INTERRUPT_OPS = 1000,   /* VM instructions between two questions: some 10 µs */
    LENGTH_MAX = 64 * 1024 * 1024,

    /* 4 MiB of WAL, SQLite's own measure. Everybody waits while it is moved. With four times as much
     * a page that changes all the time is moved less often, which spares little, since most are
     * new; but the slowest answers of a busy server take three times as long. */
    WAL_DUE_PAGES = 1000,
    WAL_WAIT_MS = 100,
    SCRUB_PAUSE_MS = 1000, /* at least, between two times that the WAL is emptied on demand */

    SQL_SHOWN_MAX = 200, /* bytes of a statement in an error text */
};

struct stmt {
    sqlite3_stmt *handle;
    struct db *db;
    struct stmt *prev, *next;
    bool running;                         /* between its first row and its reset */
    bool undoes;                          /* it is a ROLLBACK TO */
    bool (*may_write)(const char *table); /* NULL: not guarded */
    int bind_rc; /* SQLite's code for the first bind that failed since the last step */
    int bind_index;
};

/* ------------------------------------------------------------------ errors */

/*
 * READONLY without a reason is query_only, that is a wrong statement; with one (READONLY_DBMOVED,
 * …) the file is no longer ours. LOCKED is a conflict within the connection, such as a DROP TABLE
 * under an open SELECT: trying again doesn't help. A write that failed for want of room is FULL, for
 * whatever reason there is none (layer.c), and leaves the file sound; a failed fsync never does.
 */
static int code_of(int rc)
{
    switch (rc) {
    case SQLITE_IOERR_NOMEM:
        return memory_was_refused() ? ERR_LIMIT : ERR_NOMEM;
    case SQLITE_READONLY:
        return ERR_INVALID;
    default:
        break;
    }
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT:
        return ERR_CONFLICT;
    case SQLITE_FULL:
        return ERR_FULL;
    case SQLITE_NOMEM:
        return memory_was_refused() ? ERR_LIMIT : ERR_NOMEM;
    case SQLITE_BUSY:
        return ERR_BUSY;
    case SQLITE_INTERRUPT:
        return ERR_LIMIT;
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL:
    case SQLITE_READONLY:
        return ERR_FATAL;
    default:
        return ERR_INVALID;
    }
}

#define RESTORE "keep it, and put a backup in its place (README, Backup and restore)"

/* What SQLite's own text leaves open. */
static const char *detail(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
        return "; the file is damaged: " RESTORE;
    case SQLITE_NOTADB:
        return "; is it the right file? If it is, it is damaged: " RESTORE;
    default:
        break;
    }
    switch (rc) {
    case SQLITE_IOERR_READ:
    case SQLITE_IOERR_SHORT_READ:
        return ": read failed";
    case SQLITE_IOERR_WRITE:
        return ": write failed";
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_DIR_FSYNC:
        return ": fsync failed";
    case SQLITE_IOERR_TRUNCATE:
        return ": truncate failed";
    case SQLITE_IOERR_SHMSIZE:
    case SQLITE_IOERR_SHMMAP:
    case SQLITE_IOERR_SHMOPEN:
        return ": shared memory file failed";
    case SQLITE_READONLY_DIRECTORY:
        return ": its directory can't be written";
    default:
        return "";
    }
}

/* How many bytes of the statement an error text shows, cut on a character boundary. */
static int shown_length(const char *sql)
{
    size_t len = strnlen(sql, SQL_SHOWN_MAX);

    if (len == SQL_SHOWN_MAX)
        while (len > 0 && ((unsigned char)sql[len] & 0xC0) == 0x80)
            len--;
    return (int)len;
}

/* Word SQLite's error rc, given by the call just made; sql may be NULL. */
static int word_error(struct db *db, int rc, const char *sql, struct err *err)
{
    const char *message = sqlite3_errmsg(db->handle);
    int number = sqlite3_system_errno(db->handle);
    int code = code_of(rc);

    switch (code) {
    case ERR_FULL:
    case ERR_FATAL:
        /* errno is a leftover unless a system call is what failed. */
        if ((rc & 0xff) != SQLITE_IOERR && (rc & 0xff) != SQLITE_CANTOPEN)
            number = 0;
        return err_set(err, code, "'%s': %s%s%s%s%s", sqlite3_db_filename(db->handle, "main"),
                       message, detail(rc), number ? " (" : "", number ? strerror(number) : "",
                       number ? ")" : "");
    case ERR_LIMIT:
        if ((rc & 0xff) != SQLITE_INTERRUPT)
            return err_set(err, code, "used more than %zu KiB of memory for SQL%s%.*s%s",
                           memory_limit_bytes() / 1024, sql ? ": \"" : "",
                           sql ? shown_length(sql) : 0, sql ? sql : "", sql ? "\"" : "");
        return err_set(err, code, "the statement was interrupted%s%.*s%s", sql ? ": \"" : "",
                       sql ? shown_length(sql) : 0, sql ? sql : "", sql ? "\"" : "");
    case ERR_INVALID:
        if (rc == SQLITE_AUTH)
            message = "a transaction can't be begun or ended here, nor a file attached";
        return err_set(err, code, "%s%s%.*s%s", message, sql ? ", in \"" : "",
                       sql ? shown_length(sql) : 0, sql ? sql : "", sql ? "\"" : "");
    case ERR_NOMEM:
        return err_set(err, code, "the database ran out of memory");
    default:
        return err_set(err, code, "%s", message);
    }
}

static bool is_transaction_lost(const struct db *db)
{
    return db->held && sqlite3_get_autocommit(db->handle);
}

/* Word the error for the caller, and keep it where it concerns more than the caller. */
static int report(struct db *db, int rc, const char *sql, struct err *err)
{
    struct err own;
    int code;

    if (!err)
        err = &own;
    code = word_error(db, rc, sql, err);
    if (db->trouble.code)
        return code;
    if (code == ERR_FULL || code == ERR_FATAL || code == ERR_NOMEM || is_transaction_lost(db))
        err_set(&db->trouble, code, "%s", err->text);
    return code;
}

int db_report(struct db *db, int rc, struct err *err)
{
    return report(db, rc, NULL, err);
}

/* Nothing may run on its own when the transaction that it belongs to has gone. */
static int check_transaction(struct db *db, struct err *err)
{
    if (!is_transaction_lost(db))
        return 0;
    if (!db->trouble.code)
        err_set(&db->trouble, ERR_INVALID, "the transaction has ended");
    return err_set(err, db->trouble.code, "%s", db->trouble.text);
}

/* -------------------------------------------------------------- connection */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static bool library_is_ready;

/*
 * SQLite's own count of allocations costs a process-wide lock; Debian's build reads "file:" names
 * as URIs. All of this is refused, harmlessly, when somebody has used SQLite before us. Lookaside
 * memory isn't worth a word: Debian compiles it out.
 */
static void set_up_library(void)
{
    memory_install();
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_URI, 0);
    library_is_ready = layer_register();
}

/*
 * Sees to it that path is a regular file. It is opened only when that creates it: closing a
 * descriptor of a file in use would drop the locks that this process has on it.
 */
static int check_file(const char *path, enum db_mode mode, struct err *err)
{
    struct stat st;
    int fd;

    if (path[0] == '\0' || path[0] == ':') /* SQLite's names for databases that are no files */
        return err_set(err, ERR_INVALID, "'%s' is not a file name for a database", path);
    if (mode == DB_WRITER) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            return err_errno(err, ERR_IO, "cannot create the database '%s'", path);
        if (fd >= 0)
            close(fd);
    }
    if (place_check_link(path, err) < 0)
        return err_prefix(err, "cannot open the database: ");
    if (stat(path, &st) < 0)
        return err_errno(err, errno == ENOENT ? ERR_ABSENT : ERR_IO,
                         "cannot open the database '%s'", path);
    if (S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "cannot open the database '%s': it is a directory", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "cannot open the database '%s': it is not a file", path);
    return 0;
}

static int ask_interrupt(void *arg)
{
    struct db *db = arg;

    return db->interrupt(db->interrupt_arg);
}

static int deny(struct db *db, const char *what, const char *name)
{
    err_set(&db->denied, ERR_INVALID, "%s%s%s%s", what, name ? " '" : "", name ? name : "",
            name ? "'" : "");
    return SQLITE_DENY;
}

static const char schema_is_declared[] =
    "tables and indexes are declared with authkit.schema, not made with SQL";

/* What a guarded statement may do: an allow list of SQLite's action codes. */
static int authorize_guarded(struct db *db, int action, const char *a, const char *b)
{
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    case SQLITE_FUNCTION:
        return strcasecmp(b, "load_extension") == 0 ? deny(db, "it calls", b) : SQLITE_OK;
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
        if (db->may_write(a))
            return SQLITE_OK;
        if (strncasecmp(a, "sqlite_", 7) != 0)
            return deny(db, "it writes to a table that authkitd keeps:", a);
        return deny(db, schema_is_declared, NULL);
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return deny(db, "the transaction isn't the script's to control", NULL);
    case SQLITE_PRAGMA:
        return deny(db, "a script may not use PRAGMA", a);
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
        return deny(db, "a script may not use ATTACH and DETACH", NULL);
    default:
        return deny(db, schema_is_declared, NULL);
    }
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    struct db *db = arg;

    (void)c, (void)d;
    if (action == SQLITE_SAVEPOINT && strcmp(a, "ROLLBACK") == 0)
        db->undoes = true;
    if (db->held &&
        (action == SQLITE_TRANSACTION || action == SQLITE_ATTACH || action == SQLITE_DETACH) &&
        !db->may_write)
        return SQLITE_DENY;
    return db->may_write ? authorize_guarded(db, action, a, b) : SQLITE_OK;
}

/*
 * Stands in for SQLite's automatic checkpoint, which runs inside COMMIT, before anybody could be
 * answered, and drops its errors, a failed fsync included. We only count.
 */
static int note_wal_size(void *arg, sqlite3 *handle, const char *name, int pages)
{
    struct db *db = arg;

    (void)handle, (void)name;
    if (pages < db->wal_pages)
        db->wal_due_pages = WAL_DUE_PAGES; /* begun anew, so all that was in it has been moved */
    db->wal_pages = pages;
    return SQLITE_OK;
}

static int note_commit(void *arg)
{
    ((struct db *)arg)->commits++;
    return 0; /* go on */
}

static void note_rollback(void *arg)
{
    ((struct db *)arg)->undone++;
}

static void set_switch(struct db *db, int which, int on)
{
    sqlite3_db_config(db->handle, which, on, NULL);
}

static void set_up_connection(struct db *db)
{
    set_switch(db, SQLITE_DBCONFIG_DEFENSIVE, 1);
    set_switch(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0);
    set_switch(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1);
    set_switch(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0);
    set_switch(db, SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0);
    set_switch(db, SQLITE_DBCONFIG_DQS_DML, 0);
    set_switch(db, SQLITE_DBCONFIG_DQS_DDL, 0);
    sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    sqlite3_wal_autocheckpoint(db->handle, 0);
    sqlite3_set_authorizer(db->handle, authorize, db);
    sqlite3_commit_hook(db->handle, note_commit, db);
    sqlite3_rollback_hook(db->handle, note_rollback, db);
}

static int set_wal_mode(struct db *db, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc;

    rc = stmt_new(&stmt, db, "PRAGMA journal_mode = WAL", err);
    if (rc < 0)
        return rc;
    rc = stmt_step(stmt, err);
    if (rc > 0) {
        const char *mode = stmt_str(stmt, 0);

        rc =
            strcmp(mode, "wal") == 0
                ? stmt_run(stmt, err) /* to its end: only there the change is written, and synced */
                : err_set(err, ERR_IO,
                          "no write-ahead log here (journal mode '%s'): network file "
                          "systems can't have one",
                          mode);
    }
    stmt_free(stmt);
    return rc;
}

/*
 * The cache takes memory only as pages come in, and db_shrink gives it back. secure_delete: what
 * was erased on a person's request must be gone from the file. temp_store: keeps the undo logs of
 * savepoints in memory. mmap stays off: an I/O error would be a SIGBUS.
 */
static int set_up_writer(struct db *db, struct err *err)
{
    int rc;

    if (sqlite3_db_readonly(db->handle, "main") != 0)
        return err_set(err, ERR_IO, "the file can't be written");
    rc = db_exec(db, "PRAGMA page_size = 4096", err);
    if (rc < 0)
        return rc;
    rc = set_wal_mode(db, err);
    if (rc < 0)
        return rc;
    sqlite3_wal_hook(db->handle, note_wal_size, db);
    return db_exec(db,
                   "PRAGMA synchronous = FULL;"
                   "PRAGMA journal_size_limit = 67108864;"
                   "PRAGMA temp_store = MEMORY;"
                   "PRAGMA cache_size = -4000;"
                   "PRAGMA secure_delete = ON",
                   err);
}

static int set_up_reader(struct db *db, struct err *err)
{
    set_switch(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1);
    return db_exec(db, "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY", err);
}

/*
 * Whoever makes a copy syncs it as a whole, or throws it away. The last statement writes page 1, which
 * wipe.h reads before it touches another.
 */
static int set_up_target(struct db *db, struct err *err)
{
    return db_exec(db,
                   "PRAGMA page_size = 4096;"
                   "PRAGMA locking_mode = EXCLUSIVE;"
                   "PRAGMA journal_mode = MEMORY;"
                   "PRAGMA synchronous = OFF;"
                   "PRAGMA secure_delete = ON;"
                   "PRAGMA user_version = 1",
                   err);
}

static int set_up(struct db *db, struct err *err)
{
    switch (db->mode) {
    case DB_WRITER:
        return set_up_writer(db, err);
    case DB_TARGET:
        return set_up_target(db, err);
    default:
        return set_up_reader(db, err);
    }
}

/* What is fatal once we run only means, at the start, that this file can't be opened. */
static int word_unusable(struct db *db, const char *path, struct err *err)
{
    int code = sqlite3_extended_errcode(db->handle), primary = code & 0xff;
    struct err cause;

    if ((primary == SQLITE_CANTOPEN || code == SQLITE_READONLY_DIRECTORY) &&
        place_check_folder(path, &cause) < 0)
        return err_set(err, ERR_IO, "cannot use the database '%s': %s", path, cause.text);
    if (err->code == ERR_FATAL || err->code == ERR_FULL)
        err_prefix(err, "cannot use the database "); /* its path follows */
    else
        err_prefix(err, "cannot use the database '%s': ", path);
    if (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY)
        err->code = ERR_IO;
    return err->code;
}

/* Of the file whose name is the database's and this behind it; 0 when there is none. */
static ino_t inode_beside(const struct db *db, const char *suffix)
{
    char path[PATH_MAX];
    struct stat st;

    snprintf(path, sizeof(path), "%s%s", sqlite3_db_filename(db->handle, "main"), suffix);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static bool has_wal(const struct db *db)
{
    struct stat st;

    return stat(sqlite3_filename_wal(sqlite3_db_filename(db->handle, "main")), &st) == 0 &&
           st.st_size > 0;
}

/* https://www.sqlite.org/fileformat2.html, 1.3 */
enum {
    HEADER_BYTES = 100,
    AT_READ_VERSION = 19,
    WITHOUT_WAL = 1,
    AT_USER_VERSION = 60,
    AT_APPLICATION_ID = 68,
};

/* The header as the file has it. SQLite opens the file at once, and reads, locks and makes nothing
 * before its first statement. */
static bool read_header(struct db *db, unsigned char out[HEADER_BYTES])
{
    sqlite3_file *file = NULL;

    return sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_FILE_POINTER, &file) ==
               SQLITE_OK &&
           file->pMethods && file->pMethods->xRead(file, out, HEADER_BYTES, 0) == SQLITE_OK &&
           memcmp(out, "SQLite format 3", 16) == 0;
}

static int64_t header_number(const unsigned char *at)
{
    return (int64_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/*
 * Is the WAL another file's? Then SQLite would write its pages over this one's. What says in its
 * header that it has no WAL (as every copy of copy.h does) was put in the place of the file that has
 * left one. SQLite itself writes the header first when it begins to use a WAL.
 */
static int check_wal(struct db *db, const char *path, struct err *err)
{
    const char *name = sqlite3_db_filename(db->handle, "main");
    unsigned char header[HEADER_BYTES];

    if (!has_wal(db) || !read_header(db, header) || header[AT_READ_VERSION] != WITHOUT_WAL)
        return 0;
    return err_set(
        err, ERR_INVALID,
        "cannot use the database '%s': the '-wal' beside it is of another file, whose place "
        "this one has taken (a backup?)\nremove what the other one has left, '%s-wal' and "
        "'%s-shm', and start again",
        path, name, name);
}

/* A connection on which nothing has been done yet. */
static int new_connection(struct db **out, const char *path, enum db_mode mode, struct err *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    struct db *db;
    int rc;

    pthread_once(&library_once, set_up_library);
    rc = check_file(path, mode, err);
    if (rc < 0)
        return rc;
    db = calloc(1, sizeof(*db));
    if (!db || !library_is_ready) {
        free(db);
        return err_set(err, ERR_NOMEM, "cannot open the database '%s': out of memory", path);
    }
    db->mode = mode;
    db->wal_pages = 1;
    db->wal_due_pages = WAL_DUE_PAGES;
    flags |= mode == DB_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (sqlite3_open_v2(path, &db->handle, flags, layer_name()) != SQLITE_OK) {
        const char *why = db->handle ? sqlite3_errmsg(db->handle) : "out of memory";
        int number = db->handle ? sqlite3_system_errno(db->handle) : 0;

        rc = err_set(err, db->handle ? ERR_IO : ERR_NOMEM, "cannot open the database '%s': %s",
                     path, number ? strerror(number) : why);
        db_close(db);
        return rc;
    }
    *out = db;
    return 0;
}

int db_open(struct db **out, const char *path, enum db_mode mode, struct err *err)
{
    struct db *db = NULL;
    struct err own;
    int rc;

    if (!err)
        err = &own; /* err_prefix below needs one */
    rc = new_connection(&db, path, mode, err);
    if (rc == 0)
        rc = check_wal(db, path, err);
    if (rc < 0)
        goto out;
    set_up_connection(db);
    db->must_scrub = has_wal(db); /* whoever left it might have erased something */
    rc = set_up(db, err);
    if (rc == 0) /* reads the header and the schema: says whether it is a database at all */
        rc = db_exec(db, "SELECT 1 FROM sqlite_schema LIMIT 1", err);
    /* Makes these two known: to a guarded statement it would look like a CREATE TABLE. No table of the
     * database is in temp, so none can hide them. */
    if (rc == 0)
        rc = db_exec(db, "SELECT 1 FROM temp.json_each('[]'), temp.json_tree('[]')", err);
    if (rc < 0) {
        rc = word_unusable(db, path, err);
        goto out;
    }
    if (mode != DB_TARGET) { /* from here on until it is closed they stay the same */
        db->wal = inode_beside(db, "-wal");
        db->shm = inode_beside(db, "-shm");
    }
    *out = db;
    db = NULL;
out:
    db_close(db);
    return rc;
}

int db_peek(const char *path, struct db_header *out, struct err *err)
{
    unsigned char header[HEADER_BYTES];
    struct db *db = NULL;
    int rc = new_connection(&db, path, DB_READER, err);

    if (rc < 0)
        return rc;
    *out = (struct db_header){0};
    if (!has_wal(db) && read_header(db, header))
        *out = (struct db_header){
            .user_version = header_number(header + AT_USER_VERSION),
            .application_id = header_number(header + AT_APPLICATION_ID),
        };
    db_close(db);
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    while (db->statements)
        stmt_free(db->statements);
    sqlite3_close_v2(db->handle);
    free(db);
}

bool db_before_writing(struct db *db, struct stmt *first)
{
    bool waits = db->before_writing != NULL;

    db->before_writing = first;
    return waits;
}

/* If it fails it waits still: there is nothing to undo. */
static int run_before_writing(struct db *db, struct err *err)
{
    struct stmt *first = db->before_writing;
    int rc;

    db->before_writing = NULL; /* it is a statement like any other */
    rc = stmt_run(first, err);
    if (rc < 0)
        db->before_writing = first;
    return rc;
}

int db_exec(struct db *db, const char *sql, struct err *err)
{
    int rc = check_transaction(db, err);

    if (rc == 0 && db->before_writing) /* who knows what it does */
        rc = run_before_writing(db, err);
    if (rc < 0)
        return rc;
    db->undoes = false;
    rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    db->undone += db->undoes;
    return rc == SQLITE_OK ? 0 : report(db, rc, sql, err);
}

int db_read_int(struct db *db, const char *sql, int64_t *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int64_t value = 0;
    int rc = stmt_new(&stmt, db, sql, err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    if (rc == 1)
        value = stmt_int(stmt, 0);
    stmt_free(stmt);
    if (rc < 0)
        return rc;
    *out = value;
    return 0;
}

bool db_in_transaction(const struct db *db)
{
    return !sqlite3_get_autocommit(db->handle);
}

int64_t db_total_changes(const struct db *db)
{
    return sqlite3_total_changes64(db->handle);
}

int64_t db_last_insert_rowid(const struct db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

/* SQLite's number changes with every commit, our own as well, and tells nothing of what was undone. */
uint64_t db_undo_mark(const struct db *db)
{
    unsigned int version = 0;

    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_DATA_VERSION, &version);
    return (uint64_t)db->undone << 32 | (version - db->commits);
}

bool db_has_broken_references(const struct db *db)
{
    int broken = 0, unused = 0;

    sqlite3_db_status(db->handle, SQLITE_DBSTATUS_DEFERRED_FKS, &broken, &unused, 0);
    return broken != 0;
}

void db_hold_transaction(struct db *db, bool held)
{
    db->held = held;
}

void db_keep_locks(struct db *db)
{
    layer_keep_locks(db->handle);
}

void db_end_kept_locks(void)
{
    lease_end_all();
}

int db_trouble(const struct db *db)
{
    return db->trouble.code;
}

const char *db_trouble_text(const struct db *db)
{
    return db->trouble.text;
}

void db_clear_trouble(struct db *db)
{
    db->trouble.code = 0;
    db->trouble.text[0] = '\0';
}

void db_set_interrupt(struct db *db, bool (*fn)(void *arg), void *arg)
{
    db->interrupt = fn;
    db->interrupt_arg = arg;
    sqlite3_progress_handler(db->handle, fn ? INTERRUPT_OPS : 0, fn ? ask_interrupt : NULL, db);
}

/*
 * Whoever deletes or replaces one of the three files leaves us one that nobody will ever open again. What was
 * committed to a WAL that has gone SQLite still copies when it closes the file.
 */
int db_check_place(struct db *db, struct err *err)
{
    const char *suffix = NULL;
    int has_moved = 0;

    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved);
    if (has_moved)
        suffix = "";
    else if (db->wal != 0 && inode_beside(db, "-wal") != db->wal)
        suffix = "-wal";
    else if (db->shm != 0 && inode_beside(db, "-shm") != db->shm)
        suffix = "-shm";
    if (!suffix)
        return 0;
    err_set(&db->trouble, ERR_FATAL,
            "'%s%s' was deleted, or another file put in its place, while it was in use",
            sqlite3_db_filename(db->handle, "main"), suffix);
    return err_set(err, ERR_FATAL, "%s", db->trouble.text);
}

/* A checkpoint that met a reader has still moved what it could. */
static int checkpoint(struct db *db, int mode, int wait_ms, struct err *err)
{
    int rc = db_check_place(db, err);

    if (rc < 0)
        return rc;
    sqlite3_busy_timeout(db->handle, wait_ms);
    rc = sqlite3_wal_checkpoint_v2(db->handle, "main", mode, NULL, NULL);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    if ((rc & 0xff) == SQLITE_BUSY)
        return err_set(err, ERR_BUSY, "a reader is in the way of the checkpoint");
    return rc == SQLITE_OK ? 0 : report(db, rc, NULL, err);
}

static int empty_wal(struct db *db, int wait_ms, struct err *err)
{
    int rc = checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE, wait_ms, err);

    if (rc == 0) {
        db->wal_pages = 0;
        db->wal_due_pages = WAL_DUE_PAGES;
        db->must_scrub = false;
    }
    return rc;
}

int db_checkpoint(struct db *db, struct err *err)
{
    return empty_wal(db, 0, err);
}

void db_scrub_wal(struct db *db)
{
    db->must_scrub = true;
}

/*
 * The first try goes as far as the readers let it, and waits for nobody. It keeps other programs' writers out
 * (FULL instead of PASSIVE): without a reader in its way it copies all then, and its writes are gathered. Where
 * readers overlap all the time the WAL is never begun anew that way and grows without end, so later tries wait
 * for the reads that are running.
 */
int db_checkpoint_due(struct db *db, struct err *err)
{
    int rc;

    if (db->must_scrub && clock_mono_ms() >= db->next_scrub_ms) {
        rc = empty_wal(db, WAL_WAIT_MS, err);
        db->next_scrub_ms = clock_mono_ms() + SCRUB_PAUSE_MS;
        return rc == ERR_BUSY ? 0 : rc;
    }
    if (db->wal_pages < db->wal_due_pages)
        return 0;
    if (db->wal_due_pages == WAL_DUE_PAGES)
        rc = checkpoint(db, SQLITE_CHECKPOINT_FULL, 0, err);
    else
        rc = checkpoint(db, SQLITE_CHECKPOINT_RESTART, WAL_WAIT_MS, err);
    db->wal_due_pages = db->wal_pages + WAL_DUE_PAGES;
    return rc == ERR_BUSY ? 0 : rc;
}

bool db_wants_checkpoint(const struct db *db)
{
    return db->must_scrub || db->wal_pages >= db->wal_due_pages;
}

int64_t db_wal_pages(const struct db *db)
{
    return db->wal_pages;
}

void db_shrink(struct db *db)
{
    sqlite3_db_release_memory(db->handle);
    malloc_trim(0);
}

const char *db_library_version(void)
{
    return sqlite3_libversion();
}

/* -------------------------------------------------------------- statements */

/* The text behind what SQLite reads as nothing: white space, ';' and comments. */
static const char *skip_nothing(const char *sql)
{
    for (;;) {
        sql += strspn(sql, " \t\n\f\r;");
        if (sql[0] == '-' && sql[1] == '-') {
            sql += strcspn(sql, "\n");
        } else if (sql[0] == '/' && sql[1] == '*') {
            const char *end = strstr(sql + 2, "*/");

            sql = end ? end + 2 : sql + strlen(sql);
        } else {
            return sql;
        }
    }
}

static int new_statement(struct stmt **out, struct db *db, const char *sql,
                         bool (*may_write)(const char *table), struct err *err)
{
    struct stmt *stmt = NULL;
    const char *tail = NULL;
    int rc;

    stmt = calloc(1, sizeof(*stmt));
    if (!stmt)
        return report(db, SQLITE_NOMEM, NULL, err);
    db->denied.code = 0;
    db->undoes = false;
    db->may_write = may_write;
    rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt->handle, &tail);
    db->may_write = NULL;
    if (rc != SQLITE_OK && may_write && db->denied.code) {
        rc = err_set(err, ERR_INVALID, "\"%.*s\": %s", shown_length(sql), sql, db->denied.text);
        goto out;
    }
    if (rc != SQLITE_OK) {
        rc = report(db, rc, sql, err);
        goto out;
    }
    if (!stmt->handle) {
        rc = err_set(err, ERR_INVALID, "no statement in \"%.*s\"", shown_length(sql), sql);
        goto out;
    }
    tail = skip_nothing(tail);
    if (*tail) {
        rc = err_set(err, ERR_INVALID, "one statement at a time: \"%.*s\" is too much",
                     shown_length(tail), tail);
        goto out;
    }
    stmt->db = db;
    stmt->may_write = may_write;
    stmt->undoes = db->undoes;
    stmt->next = db->statements;
    if (stmt->next)
        stmt->next->prev = stmt;
    db->statements = stmt;
    *out = stmt;
    return 0;
out:
    sqlite3_finalize(stmt->handle);
    free(stmt);
    return rc;
}

int stmt_new(struct stmt **out, struct db *db, const char *sql, struct err *err)
{
    return new_statement(out, db, sql, NULL, err);
}

int stmt_new_guarded(struct stmt **out, struct db *db, const char *sql,
                     bool (*may_write)(const char *table), struct err *err)
{
    return new_statement(out, db, sql, may_write, err);
}

void stmt_free(struct stmt *stmt)
{
    if (!stmt)
        return;
    if (stmt->prev)
        stmt->prev->next = stmt->next;
    else
        stmt->db->statements = stmt->next;
    if (stmt->next)
        stmt->next->prev = stmt->prev;
    stmt->db->running -= stmt->running;
    sqlite3_finalize(stmt->handle);
    free(stmt);
}

void db_reset_statements(struct db *db)
{
    for (struct stmt *stmt = db->statements; stmt && db->running > 0; stmt = stmt->next)
        if (stmt->running)
            stmt_reset(stmt);
}

static void note_bind(struct stmt *stmt, int index, int rc)
{
    if (rc != SQLITE_OK && stmt->bind_rc == SQLITE_OK) {
        stmt->bind_rc = rc;
        stmt->bind_index = index;
    }
}

void stmt_bind_null(struct stmt *stmt, int index)
{
    note_bind(stmt, index, sqlite3_bind_null(stmt->handle, index));
}

void stmt_bind_int(struct stmt *stmt, int index, int64_t value)
{
    note_bind(stmt, index, sqlite3_bind_int64(stmt->handle, index, value));
}

void stmt_bind_real(struct stmt *stmt, int index, double value)
{
    note_bind(stmt, index, sqlite3_bind_double(stmt->handle, index, value));
}

void stmt_bind_text(struct stmt *stmt, int index, const char *text, size_t len)
{
    note_bind(stmt, index,
              sqlite3_bind_text64(stmt->handle, index, text, len, SQLITE_STATIC, SQLITE_UTF8));
}

void stmt_bind_str(struct stmt *stmt, int index, const char *text)
{
    stmt_bind_text(stmt, index, text, text ? strlen(text) : 0);
}

static int report_bind(struct stmt *stmt, struct err *err)
{
    const char *sql = sqlite3_sql(stmt->handle);

    switch (stmt->bind_rc) {
    case SQLITE_NOMEM:
        return report(stmt->db, SQLITE_NOMEM, NULL, err);
    case SQLITE_RANGE:
        return err_set(err, ERR_INVALID, "no parameter %d in \"%.*s\"", stmt->bind_index,
                       shown_length(sql), sql);
    case SQLITE_MISUSE:
        return err_set(err, ERR_INVALID, "bound while it was running: \"%.*s\"", shown_length(sql),
                       sql);
    default:
        return err_set(err, ERR_INVALID, "parameter %d: %s, in \"%.*s\"", stmt->bind_index,
                       sqlite3_errstr(stmt->bind_rc), shown_length(sql), sql);
    }
}

int stmt_step(struct stmt *stmt, struct err *err)
{
    struct db *db = stmt->db;
    int rc = check_transaction(db, err);

    if (rc == 0 && stmt->bind_rc != SQLITE_OK)
        rc = report_bind(stmt, err);
    if (rc == 0 && db->before_writing && !sqlite3_stmt_readonly(stmt->handle))
        rc = run_before_writing(db, err);
    if (rc == 0) {
        db->may_write = stmt->may_write; /* a change of the schema makes SQLite prepare it anew */
        rc = sqlite3_step(stmt->handle);
        db->may_write = NULL;
        db->undone += stmt->undoes;
        if (rc == SQLITE_ROW) {
            db->running += !stmt->running;
            stmt->running = true;
            return 1;
        }
        rc = rc == SQLITE_DONE ? 0 : report(db, rc, sqlite3_sql(stmt->handle), err);
    }
    stmt_reset(stmt);
    return rc;
}

int stmt_run(struct stmt *stmt, struct err *err)
{
    int rc;

    do
        rc = stmt_step(stmt, err);
    while (rc > 0);
    return rc;
}

void stmt_reset(struct stmt *stmt)
{
    sqlite3_reset(stmt->handle);
    sqlite3_clear_bindings(stmt->handle);
    stmt->bind_rc = SQLITE_OK;
    stmt->db->running -= stmt->running;
    stmt->running = false;
}

int stmt_column_count(const struct stmt *stmt)
{
    return sqlite3_column_count(stmt->handle);
}

const char *stmt_column_name(struct stmt *stmt, int column)
{
    const char *name = sqlite3_column_name(stmt->handle, column);

    return name ? name : "";
}

enum stmt_type stmt_column_type(struct stmt *stmt, int column)
{
    switch (sqlite3_column_type(stmt->handle, column)) {
    case SQLITE_INTEGER:
        return STMT_INT;
    case SQLITE_FLOAT:
        return STMT_REAL;
    case SQLITE_TEXT:
        return STMT_TEXT;
    case SQLITE_BLOB:
        return STMT_BLOB;
    default:
        return STMT_NULL;
    }
}

int64_t stmt_int(struct stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt->handle, column);
}

double stmt_real(struct stmt *stmt, int column)
{
    return sqlite3_column_double(stmt->handle, column);
}

const char *stmt_text(struct stmt *stmt, int column, size_t *out_len)
{
    const char *text = NULL;
    size_t len = 0;

    if (sqlite3_column_type(stmt->handle, column) != SQLITE_NULL) {
        text = (const char *)sqlite3_column_text(stmt->handle, column);
        if (text) {
            len = (size_t)sqlite3_column_bytes(stmt->handle, column);
        } else {
            /* No memory, or an empty blob. A value that isn't NULL must not look like it. */
            if (sqlite3_errcode(stmt->db->handle) == SQLITE_NOMEM)
                report(stmt->db, SQLITE_NOMEM, NULL, NULL);
            text = "";
        }
    }
    if (out_len)
        *out_len = len;
    return text;
}

const char *stmt_str(struct stmt *stmt, int column)
{
    const char *text = stmt_text(stmt, column, NULL);

    return text ? text : "";
}

int stmt_param_count(const struct stmt *stmt)
{
    return sqlite3_bind_parameter_count(stmt->handle);
}

bool stmt_is_readonly(const struct stmt *stmt)
{
    return sqlite3_stmt_readonly(stmt->handle) != 0;
}

const char *stmt_column_declared(struct stmt *stmt, int column)
{
    return sqlite3_column_decltype(stmt->handle, column);
}
