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

enum { BODY_MAX = 65536 };

static int say(int64_t put_back, bool is_running, bool any_refused)
{
    printf("%" PRId64 " event%s put back to work%s\n", put_back, put_back == 1 ? "" : "s",
           is_running || put_back == 0 ? "" : ": they run when the server is started");
    return any_refused ? EXIT_FAILED : EXIT_FINE;
}

static void write_body(const struct config *config, struct buf *out)
{
    buf_puts(out, "{\"ids\":[");
    for (size_t i = 0; i < config->operand_count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        buf_put_json_string(out, config->operands[i], strlen(config->operands[i]));
    }
    buf_printf(out, "],\"all\":%s}", config->all ? "true" : "false");
}

static int ask_server(const struct config *config)
{
    struct buf body = BUF_INIT(BODY_MAX);
    struct http_client_response response = {0};
    struct err err;
    int code = EXIT_FAILED;

    write_body(config, &body);
    if (!buf_ok(&body)) {
        command_complain("too many ids for one call");
    } else if (admin_client_post(config, "/retry", &body,
                                 "stop the server, and call this again before you start it",
                                 &response, &err) < 0) {
        command_complain(err.text);
    } else if (response.status == 200) {
        admin_client_print(stderr, &response, NULL, "problems");
        code = say(admin_client_number(&response, "put_back"), true,
                   admin_client_number(&response, "refused") > 0);
    } else {
        admin_client_print(stderr, &response, "error", "message");
    }
    http_client_response_release(&response);
    buf_release(&body);
    return code;
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

static int retry(const struct config *config)
{
    struct lock_holder holder;
    struct err err;
    int rc;

    if ((config->operand_count > 0) == (config->all != 0)) {
        command_complain("retry wants the ids of events, or --all; authkitd events --status dead "
                         "shows what there is");
        return EXIT_USAGE;
    }
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
    .about = "They run at once, or when the server is started if none runs with --db.",
    .options = FOR_RETRY,
    .run = retry,
};
