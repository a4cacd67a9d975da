/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/database.h"
#include "app/interrupt.h"
#include "app/new_file.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/copy.h"
#include "store/lock.h"
#include "workos/backfill_mark.h"
#include "workos/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHOW_AFTER_MS = 500, SHOW_EVERY_MS = 200 };

struct backup {
    const struct config *config;
    const char *file;
    bool is_terminal;
    int64_t started_ms, shown_ms; /* monotonic */
    int64_t version;
    struct db *source;
    struct new_file new_file;
    struct verify_counts counts;
    int64_t bytes;
};

/* ------------------------------------------------------------------------- may FILE be written? */

static bool is_same_file(const char *a, const char *b)
{
    struct stat at, bt;

    return stat(a, &at) == 0 && stat(b, &bt) == 0 && at.st_dev == bt.st_dev &&
           at.st_ino == bt.st_ino;
}

/* The file's name without the links, dots and so on of its folder; its own may be a link, or not be there.
 * Yours to free; NULL when there is no such folder. */
static char *place_of(const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    char *folder = slash ? strndup(file, (size_t)(name - file)) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    char *place = NULL;

    if (real && asprintf(&place, "%s%s%s", real, text_ends_with(real, "/") ? "" : "/", name) < 0)
        place = NULL;
    free(folder);
    free(real);
    return place;
}

/* Beside both names of a database that is a link: SQLite and the lock go by the one, the watchdog's note by
 * the other. place: file's own. */
static bool is_beside(const char *database, const char *file, const char *place)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".lock", ".watchdog"};
    char name[PATH_MAX + 16];

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        snprintf(name, sizeof(name), "%s%s", database, ends[i]);
        if ((place && strcmp(name, place) == 0) || is_same_file(name, file))
            return true;
    }
    return false;
}

/* The database, or one of the files that belong to it, whether they are there now or not. */
static bool is_databases_own(const char *database, const char *file)
{
    char *real = realpath(database, NULL), *beside = place_of(database), *place = place_of(file);
    bool is_own = is_beside(real ? real : database, file, place) ||
                  is_beside(beside ? beside : database, file, place);

    free(real);
    free(beside);
    free(place);
    return is_own;
}

static int check_existing(const char *file, struct err *err)
{
    struct stat st;

    if (stat(file, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(err, ERR_IO, "cannot write '%s'", file);
    if (S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "'%s' is a directory: name a file in it", file);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID,
                       "'%s' is no file: a backup is made beside it first, and "
                       "takes its place",
                       file);
    return 0;
}

/* What a database that had this name has left would be taken for the copy's. */
static int check_remains(const char *file, struct err *err)
{
    static const char *const ends[] = {"-wal", "-journal"};
    char name[PATH_MAX + 16];
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        snprintf(name, sizeof(name), "%s%s", file, ends[i]);
        if (stat(name, &st) == 0 && st.st_size > 0)
            return err_set(
                err, ERR_CONFLICT,
                "'%s' is there: it belongs to a database called '%s', and would be taken for "
                "the copy's\ntake another name",
                name, file);
    }
    return 0;
}

static int check_file(const struct backup *backup, struct err *err)
{
    struct lock_holder holder;
    int rc;

    if (is_databases_own(backup->config->db, backup->file))
        return err_set(err, ERR_INVALID,
                       "'%s' is the database itself, or a file of its own: take "
                       "another name",
                       backup->file);
    if (lock_peek(backup->file, &holder, NULL) == 0)
        return err_set(err, ERR_BUSY, "'%s' is the database of an authkitd that runs (pid %ld)",
                       backup->file, holder.pid);
    rc = check_existing(backup->file, err);
    return rc < 0 ? rc : check_remains(backup->file, err);
}

/* ------------------------------------------------------------------------- how far it is */

/* For a file that is copied before anybody has wondered nothing is shown. */
static bool is_time_to_show(struct backup *backup)
{
    int64_t now_ms = clock_mono_ms();

    if (!backup->is_terminal || now_ms - backup->started_ms < SHOW_AFTER_MS ||
        now_ms - backup->shown_ms < SHOW_EVERY_MS)
        return false;
    backup->shown_ms = now_ms;
    return true;
}

static bool show(void *arg, int64_t done_bytes, int64_t total_bytes)
{
    struct backup *backup = arg;
    char done[TEXT_BYTES_MAX], total[TEXT_BYTES_MAX];

    if (is_time_to_show(backup)) {
        text_format_bytes(done_bytes, done);
        text_format_bytes(total_bytes, total);
        fprintf(stderr, "\rcopying  %3" PRId64 " %%  %s of %s\033[K",
                total_bytes ? 100 * done_bytes / total_bytes : 0, done, total);
    }
    return !interrupt_came();
}

/* Asked now and then while the copy is checked. */
static bool show_checking(void *arg)
{
    struct backup *backup = arg;

    if (is_time_to_show(backup))
        fprintf(stderr, "\rchecking the copy\033[K");
    return interrupt_came();
}

static void clear_line(const struct backup *backup)
{
    if (backup->is_terminal && backup->shown_ms)
        fputs("\r\033[K", stderr);
}

/* ------------------------------------------------------------------------- the copy */

static void take_problem(void *arg, const char *problem)
{
    char *first = arg;

    if (!first[0])
        snprintf(first, ERR_TEXT_MAX, "%s", problem);
}

static int check_copy(struct backup *backup, struct err *err)
{
    char problem[ERR_TEXT_MAX] = "";
    struct db *copy = NULL;
    int64_t problems = 0, version;
    int rc = database_open_reader(&copy, backup->new_file.partial, &version, err);

    if (rc == 0) {
        db_set_interrupt(copy, show_checking, backup);
        rc = verify_file(copy, take_problem, problem, &problems, err);
    }
    if (rc == 0 && problems == 0)
        rc = verify_count(copy, &backup->counts, err);
    if (rc == 0 && problems == 0)
        rc = copy_measure(copy, &backup->bytes, err);
    db_close(copy);
    text_make_plain(problem);
    if (rc == 0 && problems > 0)
        rc = err_set(err, ERR_FATAL,
                     "the copy isn't sound, and was removed: %.500s\nthe database "
                     "itself may be damaged: authkitd maintain --check tells",
                     problem);
    return rc;
}

static int make_copy(struct backup *backup, struct err *err)
{
    int64_t bytes;
    int rc = copy_measure(backup->source, &bytes, err);

    if (rc == 0)
        rc = new_file_check_room(backup->file, bytes, err);
    if (rc == 0)
        rc = new_file_make(&backup->new_file, backup->file, backup->config->force, err);
    if (rc < 0)
        return rc;
    rc = copy_database(backup->source, backup->new_file.partial, show, backfill_leave_out, backup,
                       err);
    db_close(backup->source); /* a long look is over: what follows holds nobody up */
    backup->source = NULL;
    if (rc == 0)
        rc = check_copy(backup, err);
    if (rc == 0 && interrupt_came())
        rc = err_set(err, ERR_CLOSED, "stopped");
    if (rc == 0)
        rc = new_file_finish(&backup->new_file, err);
    if (rc < 0)
        copy_remove(backup->new_file.partial);
    return rc;
}

static void tell(const struct backup *backup)
{
    char size[TEXT_BYTES_MAX];

    text_format_bytes(backup->bytes, size);
    printf("%s: %s in %.1f s, %" PRId64 " user%s, %" PRId64 " event%s\n", backup->file, size,
           (double)(clock_mono_ms() - backup->started_ms) / 1000, backup->counts.users,
           backup->counts.users == 1 ? "" : "s", backup->counts.events,
           backup->counts.events == 1 ? "" : "s");
}

static int complain(struct backup *backup, struct err *err)
{
    clear_line(backup);
    if (interrupt_came())
        err_set(err, ERR_CLOSED, "stopped; no backup was made");
    command_complain(err->text);
    return EXIT_FAILED;
}

static int backup_to(struct backup *backup)
{
    struct err err;
    int rc = database_open_reader(&backup->source, backup->config->db, &backup->version, &err);

    if (rc == 0)
        rc = check_file(backup, &err);
    if (rc == 0)
        rc = make_copy(backup, &err);
    db_close(backup->source);
    if (rc < 0)
        return complain(backup, &err);
    clear_line(backup);
    tell(backup);
    return EXIT_FINE;
}

static int backup(const struct config *config)
{
    struct backup backup = {
        .config = config,
        .is_terminal = isatty(STDERR_FILENO),
        .started_ms = clock_mono_ms(),
    };

    if (config->operand_count == 0 || config->operands[0][0] == '\0') {
        command_complain("backup wants the name of the file to write: authkitd backup FILE");
        return EXIT_USAGE;
    }
    backup.file = config->operands[0];
    if (strcmp(backup.file, "-") == 0) {
        command_complain(
            "a backup can't be written to standard output, since it is checked before it "
            "counts\nname a file, and send that one on");
        return EXIT_USAGE;
    }
    interrupt_catch();
    return backup_to(&backup);
}

const struct command cmd_backup = {
    .name = "backup",
    .operand = "FILE",
    .summary = "write a consistent copy of the database, also while the server runs",
    .about =
        "The copy is checked before it gets its name, and is a database to start a server with.\n"
        "It reads the database itself, so it must run as a user who may: the server's.",
    .options = FOR_BACKUP,
    .run = backup,
};
