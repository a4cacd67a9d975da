/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/admin_client.h"
#include "app/at_rest.h"
#include "app/service.h"
#include "fetch/fetch.h"
#include "store/lock.h"
#include "workos/poller.h"

#include <inttypes.h>
#include <stdio.h>

static void say(const struct poller_report *report)
{
    printf("read %" PRId64 " event%s from the Events API; %" PRId64 " of them %s new\n",
           report->read, report->read == 1 ? "" : "s", report->fresh,
           report->fresh == 1 ? "was" : "were");
    if (report->unusable)
        printf("%" PRId64 " could not be read and %s left out\n", report->unusable,
               report->unusable == 1 ? "was" : "were");
    if (report->refused)
        puts("WorkOS refused the types that only handlers.lua has functions for: one of them may "
             "be misspelt (authkitd check). Their events are read as soon as it is mended.");
}

static int ask_server(const struct config *config)
{
    static const struct admin_call call = {
        .path = "/reconcile",
        .instead = "stop the server, and call this again before you start it",
        .proof = "read",
        .slow = "it waits for WorkOS, and reads all that happened since the last reading"};
    struct http_client_response response = {0};
    struct err err;
    int code = EXIT_FAILED;

    if (admin_client_post(config, &call, &response, &err) < 0) {
        command_complain(err.text);
    } else if (response.status == 200) {
        const struct poller_report report = {.read = admin_client_number(&response, "read"),
                                             .fresh = admin_client_number(&response, "fresh"),
                                             .unusable = admin_client_number(&response, "unusable"),
                                             .refused = admin_client_number(&response, "refused")};

        say(&report);
        code = EXIT_FINE;
    } else {
        fputs("authkitd: ", stderr);
        admin_client_print(stderr, &response, "error", "message");
    }
    http_client_response_release(&response);
    return code;
}

static int reconcile_at_rest(const struct config *config)
{
    struct poller_opts opts = {0};
    struct poller_report report;
    struct at_rest *at_rest = NULL;
    struct err err;
    int rc;

    if (!service_api(config, &opts.api)) {
        command_complain("set WORKOS_API_KEY to a key of WorkOS's dashboard (sk_…)");
        return EXIT_FAILED;
    }
    log_setup(LOG_LEVEL_WARN, (enum log_format)config->log_format);
    rc = fetch_set_up(&err);
    if (rc == 0)
        rc = at_rest_open(&at_rest, config, &err);
    if (rc == 0)
        rc = poller_once(at_rest_workos(at_rest), &opts, &report, &err);
    at_rest_close(at_rest);
    if (rc < 0) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    say(&report);
    return EXIT_FINE;
}

static int reconcile(const struct config *config)
{
    struct lock_holder holder;
    struct err err;
    int rc = lock_peek(config->db, &holder, &err);

    if (rc < 0 && rc != ERR_ABSENT) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    return rc == ERR_ABSENT ? reconcile_at_rest(config) : ask_server(config);
}

const struct command cmd_reconcile = {
    .name = "reconcile",
    .summary = "fetch missed events from the Events API once, now, and report",
    .about =
        "The running server does it, with its own API key, unless it runs with --poll off; with\n"
        "no server running on --db this command does it itself.",
    .options = FOR_RECONCILE,
    .run = reconcile,
};
