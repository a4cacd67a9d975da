/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/admin_client.h"
#include "app/database.h"
#include "store/db.h"
#include "store/lock.h"
#include "workos/put_back.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    PORTION_BYTES = 16384, /* of ids in one request: a quarter of what the admin listener takes */
    BODY_MAX = 1 << 20,
};

static int say(int64_t put_back, bool is_running, bool any_refused)
{
    printf("%" PRId64 " event%s put back to work%s\n", put_back, put_back == 1 ? "" : "s",
           is_running || put_back == 0 ? "" : ": they run when the server is started");
    return any_refused ? EXIT_FAILED : EXIT_FINE;
}

/* How many of the next ids go together; one at least. */
static size_t portion_of(const char *const *ids, size_t left)
{
    size_t count = 0, bytes = 0;

    while (count < left && (count == 0 || bytes + strlen(ids[count]) <= PORTION_BYTES))
        bytes += strlen(ids[count++]) + sizeof("\"\",") - 1;
    return count;
}

/* The body that asks for those ids, or for all when there are none. */
static void write_body(const char *const *ids, size_t count, struct buf *out)
{
    buf_puts(out, "{\"ids\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        buf_put_json_string(out, ids[i], strlen(ids[i]));
    }
    buf_printf(out, "],\"all\":%s}", count == 0 ? "true" : "false");
}

/* Adds to the counts what came of it, and prints the problems of single ids. */
static int ask_for(const struct config *config, const char *const *ids, size_t count,
                   struct put_back_outcome *sum, struct err *err)
{
    struct buf body = BUF_INIT(BODY_MAX);
    const struct admin_call call = {
        .path = "/retry",
        .body = &body,
        .instead = "stop the server, and call this again before you start it",
        .proof = "put_back",
    };
    struct http_client_response response = {0};
    int rc;

    write_body(ids, count, &body);
    rc = buf_ok(&body) ? admin_client_post(config, &call, &response, err)
                       : err_set(err, ERR_NOMEM, "no memory for the ids");
    if (rc == 0 && response.status != 200)
        rc = admin_client_error(&response, err);
    if (rc == 0) {
        admin_client_print(stderr, &response, NULL, "problems");
        sum->put_back += admin_client_number(&response, "put_back");
        sum->refused += (size_t)admin_client_number(&response, "refused");
    }
    http_client_response_release(&response);
    buf_release(&body);
    return rc;
}

static int ask_server(const struct config *config)
{
    struct put_back_outcome sum = {0};
    struct err err;
    size_t asked = 0;
    int rc;

    do {
        size_t count = portion_of(config->operands + asked, config->operand_count - asked);

        rc = ask_for(config, config->operands + asked, count, &sum, &err);
        asked += count;
    } while (rc == 0 && asked < config->operand_count);
    if (rc < 0) {
        command_complain(err.text);
        if (sum.put_back > 0)
            say(sum.put_back, true, false);
        return EXIT_FAILED;
    }
    return say(sum.put_back, true, sum.refused > 0);
}

/* No server runs: this process owns the database for the moment. */
static int write_at_rest(const struct config *config, struct put_back_outcome *out, struct err *err)
{
    const struct put_back_request request = {.ids = config->operands,
                                             .count = config->operand_count};
    struct lock *lock = NULL;
    struct db *db = NULL;
    int rc;

    if (access(config->db, F_OK) < 0)
        return err_errno(err, ERR_ABSENT, "no server runs, and the database '%s' can't be found",
                         config->db);
    rc = lock_acquire(&lock, config->db, err);
    if (rc == 0)
        rc = database_open_writer(&db, config->db, err);
    if (rc == 0)
        rc = put_back_at_rest(db, &request, out, err);
    db_close(db);
    lock_release(lock);
    return rc;
}

static int retry_at_rest(const struct config *config)
{
    struct put_back_outcome outcome = {0};
    struct err err;
    int code = EXIT_FAILED;

    if (write_at_rest(config, &outcome, &err) < 0) {
        command_complain(err.text);
    } else {
        fputs(buf_text(&outcome.problems), stderr);
        code = say(outcome.put_back, false, outcome.refused > 0);
    }
    buf_release(&outcome.problems);
    return code;
}

static int retry(const struct config *asked)
{
    struct config distinct = *asked, *config = &distinct; /* so that each event counts once */
    struct lock_holder holder;
    struct err err;
    int rc;

    if ((config->operand_count > 0) == (config->all != 0)) {
        command_complain("retry wants the ids of events, or --all; authkitd events --status dead "
                         "shows what there is");
        return EXIT_USAGE;
    }
    rc = put_back_drop_repeats(config->operands, &config->operand_count, &err);
    if (rc == 0)
        rc = lock_peek(config->db, &holder, &err);
    if (rc < 0 && rc != ERR_ABSENT) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    return rc == ERR_ABSENT ? retry_at_rest(config) : ask_server(config);
}

const struct command cmd_retry = {
    .name = "retry",
    .operand = "ID…|--all",
    .summary = "put failed or dead events back to work",
    .about =
        "They run at once, or when the server is started if none runs with --db; authkitd events\n"
        "tells what became of them. One whose type has no function is dead again at once.",
    .options = FOR_RETRY,
    .run = retry,
};
