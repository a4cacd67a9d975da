/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/database.h"
#include "app/interrupt.h"
#include "base/text.h"
#include "store/compact.h"
#include "store/copy.h"
#include "store/lock.h"
#include "workos/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct maintenance {
    const struct config *config;
    struct lock *lock;
    struct db *db;
    int64_t version;
    int64_t file_problems, rule_problems;
};

/* ------------------------------------------------------------------------- is it sound? */

static void complain_of(void *arg, const char *problem)
{
    char text[ERR_TEXT_MAX];

    (void)arg;
    snprintf(text, sizeof(text), "%s", problem);
    text_make_plain(text);
    fflush(stdout);
    command_complain(text);
}

/* A file that is damaged isn't asked what is in it. */
static int check(struct maintenance *m, struct err *err)
{
    struct verify_counts counts;
    int rc = verify_file(m->db, complain_of, NULL, &m->file_problems, err);

    if (rc < 0 || m->file_problems > 0)
        return rc;
    rc = verify_rules(m->db, m->version, complain_of, NULL, &m->rule_problems, err);
    if (rc == 0)
        rc = verify_count(m->db, &counts, err);
    if (rc < 0 || m->rule_problems > 0)
        return rc;
    printf("checked    sound: %" PRId64 " user%s, %" PRId64 " event%s\n", counts.users,
           counts.users == 1 ? "" : "s", counts.events, counts.events == 1 ? "" : "s");
    fflush(stdout);
    return 0;
}

static int tell_problems(const struct maintenance *m)
{
    char text[256];

    if (m->file_problems > 0) {
        command_complain(
            "the file is damaged: stop the server, keep the file, and put a backup in its "
            "place (README, restoring a backup)");
    } else if (m->rule_problems > 0) {
        snprintf(text, sizeof(text), "%" PRId64 " problem%s", m->rule_problems,
                 m->rule_problems == 1 ? "" : "s");
        command_complain(text);
    }
    return m->file_problems + m->rule_problems > 0 ? EXIT_FAILED : EXIT_FINE;
}

/* ------------------------------------------------------------------------- smaller */

static int check_room(struct maintenance *m, struct err *err)
{
    char needed[TEXT_BYTES_MAX], there[TEXT_BYTES_MAX];
    int64_t needed_bytes, free_bytes;
    int rc = compact_measure(m->db, &needed_bytes, &free_bytes, err);

    if (rc < 0 || needed_bytes <= free_bytes)
        return rc;
    text_format_bytes(needed_bytes, needed);
    text_format_bytes(free_bytes, there);
    return err_set(
        err, ERR_FULL,
        "no room to compact the database: up to %s are needed beside it for the moment, and %s "
        "are free",
        needed, there);
}

static void tell_gain(int64_t before, int64_t after)
{
    char was[TEXT_BYTES_MAX], is[TEXT_BYTES_MAX], gained[TEXT_BYTES_MAX];

    text_format_bytes(before, was);
    text_format_bytes(after, is);
    text_format_bytes(before - after, gained);
    if (after < before)
        printf("compacted  %s, was %s: %s gained\n", is, was, gained);
    else
        printf("compacted  %s: there was nothing to gain\n", is);
}

static int compact(struct maintenance *m, struct err *err)
{
    int64_t before, after;
    int rc = copy_measure(m->db, &before, err);

    if (rc == 0)
        rc = check_room(m, err);
    if (rc == 0)
        rc = compact_database(m->db, err);
    if (rc == ERR_BUSY)
        return err_set(
            err, ERR_BUSY,
            "the database is compacted, but somebody reads it, so the file isn't any smaller "
            "yet\nend authkitd events, authkitd backup or what else has it open, and call this "
            "again");
    if (rc == ERR_CONFLICT)
        return err_prefix(err, "the database isn't compacted, and is as it was: ");
    if (rc == 0)
        rc = copy_measure(m->db, &after, err);
    if (rc == 0)
        tell_gain(before, after);
    return rc;
}

/* ------------------------------------------------------------------------- all together */

static int refuse_running(struct err *err)
{
    struct err cause = *err;

    return err_set(
        err, ERR_BUSY,
        "%s\nstop it first, and start it again afterwards; authkitd maintain --check only "
        "checks, also while it runs",
        cause.text);
}

static int open_for_work(struct maintenance *m, struct err *err)
{
    struct db *reader = NULL;
    int rc = database_open_reader(&reader, m->config->db, &m->version, err);

    db_close(reader); /* it is there, and ours */
    if (rc < 0)
        return rc;
    rc = lock_acquire(&m->lock, m->config->db, err);
    if (rc == ERR_BUSY)
        return refuse_running(err);
    return rc < 0 ? rc : database_open_writer(&m->db, m->config->db, err);
}

static int work(struct maintenance *m, struct err *err)
{
    bool only_checks = m->config->check != 0;
    int rc = only_checks ? database_open_reader(&m->db, m->config->db, &m->version, err)
                         : open_for_work(m, err);

    if (rc < 0)
        return rc;
    db_set_interrupt(m->db, interrupt_ask, NULL);
    rc = check(m, err);
    if (rc == 0 && !only_checks && m->file_problems == 0)
        rc = compact(m, err);
    return rc;
}

static int maintain(const struct config *config)
{
    struct maintenance m = {.config = config};
    struct err err;
    int rc, code;

    interrupt_catch();
    rc = work(&m, &err);
    db_close(m.db);
    lock_release(m.lock);
    if (rc < 0 && interrupt_came())
        err_set(&err, ERR_CLOSED, "stopped; the database is as it was");
    if (rc < 0)
        command_complain(err.text);
    code = tell_problems(&m);
    return rc < 0 ? EXIT_FAILED : code;
}

const struct command cmd_maintain = {
    .name = "maintain",
    .summary = "check the database, and write it anew without its holes",
    .about =
        "Every problem is told in words, and the exit code is 1 then. While a server runs only\n"
        "--check is possible. Interrupting it does no harm.",
    .options = FOR_MAINTAIN,
    .run = maintain,
};
