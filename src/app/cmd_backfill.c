/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "admin/admin_backfill.h"
#include "app/admin_client.h"
#include "app/at_rest.h"
#include "app/backfill_view.h"
#include "app/service.h"
#include "fetch/fetch.h"
#include "store/lock.h"
#include "workos/backfill.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 200, ANSWER_MAX = 65536, LOST_MAX = 5 };

#define GOES_ON "authkitd backfill goes on where this one has come to"
#define INSTEAD "stop the server, and call this again before you start it"
#define PROOF "run" /* a member of every answer about a backfill */

/* ------------------------------------------------------------------------- where it runs */

/* In the server that runs, or in this process. */
struct place {
    const struct config *config;
    struct at_rest *at_rest;   /* NULL: the server */
    struct backfill *backfill; /* the same */
    bool is_resumption_told;
};

static int open_place(struct place *place, struct err *err)
{
    struct workos_api_opts api;
    int rc;

    if (!service_api(place->config, &api))
        return err_set(err, ERR_INVALID,
                       "no server runs, and WORKOS_API_KEY isn't set: set it to a key of WorkOS's "
                       "dashboard (sk_…)");
    log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    rc = fetch_set_up(err);
    if (rc == 0)
        rc = at_rest_open(&place->at_rest, place->config, err);
    return rc < 0 ? rc : backfill_new(&place->backfill, at_rest_workos(place->at_rest), &api, err);
}

static void close_place(struct place *place)
{
    backfill_free(place->backfill);
    at_rest_close(place->at_rest);
}

/* The server's answer, or what it says is wrong. */
static int take_answer(int rc, int wanted_status, struct http_client_response *response,
                       struct buf *out, struct err *err)
{
    if (rc == 0 && response->status == wanted_status) {
        buf_put(out, buf_text(&response->body), response->body.len);
    } else if (rc == 0) {
        rc = admin_client_error(response, err);
    }
    http_client_response_release(response);
    return rc;
}

static int look(const struct place *place, struct backfill_view *out, struct err *err)
{
    static const struct admin_call call = {.path = "/backfill", .instead = INSTEAD, .proof = PROOF};
    struct buf json = BUF_INIT(ANSWER_MAX);
    struct http_client_response response = {0};
    int rc = 0;

    if (place->backfill) {
        backfill_put_progress(place->backfill, &json);
    } else {
        rc = admin_client_get(place->config, &call, &response, err);
        rc = take_answer(rc, 200, &response, &json, err);
    }
    if (rc == 0)
        rc = backfill_view_read(out, &json, err);
    buf_release(&json);
    return rc;
}

/* out_run: the run's number. */
static int start(const struct place *place, const struct backfill_request *request,
                 int64_t *out_run, struct err *err)
{
    struct buf body = BUF_INIT(ANSWER_MAX), json = BUF_INIT(ANSWER_MAX);
    const struct admin_call call = {
        .path = "/backfill", .body = &body, .instead = INSTEAD, .proof = PROOF};
    struct http_client_response response = {0};
    struct backfill_view view;
    int rc;

    if (place->backfill) {
        rc = backfill_start(place->backfill, request, err);
        if (rc == 0)
            backfill_put_progress(place->backfill, &json);
    } else {
        admin_backfill_write(&body, request);
        rc = admin_client_post(place->config, &call, &response, err);
        rc = take_answer(rc, 202, &response, &json, err);
    }
    if (rc == 0)
        rc = backfill_view_read(&view, &json, err);
    if (rc == 0)
        *out_run = view.run;
    buf_release(&body);
    buf_release(&json);
    return rc;
}

static void stop(const struct place *place)
{
    static const struct admin_call call = {
        .path = "/backfill/stop", .instead = INSTEAD, .proof = "stopping"};
    struct http_client_response response = {0};
    struct err err;

    if (place->backfill)
        backfill_stop(place->backfill);
    else if (admin_client_post(place->config, &call, &response, &err) < 0)
        command_complain(err.text);
    http_client_response_release(&response);
}

/* ------------------------------------------------------------------------- watching it */

static volatile sig_atomic_t interrupts;

/* The second one ends this process: whatever it was doing, nothing is lost. */
static void on_signal(int signal_number)
{
    (void)signal_number;
    if (++interrupts > 1)
        _exit(EXIT_FAILED);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, hangup;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, NULL, &hangup);
    if (hangup.sa_handler != SIG_IGN) /* nohup: it is to go on without its terminal */
        sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void wait_a_little(void)
{
    struct timespec slice = {.tv_nsec = LOOK_EVERY_MS * 1000000L};

    nanosleep(&slice, NULL); /* a signal ends it early */
}

/* Is the server gone, or is it another one? Then nobody will tell how it ends. */
static int check_run(const struct place *place, int64_t run, struct backfill_view *out, int *lost,
                     struct err *err)
{
    int rc = look(place, out, err);

    if (rc < 0 && ++*lost < LOST_MAX)
        return 0;
    if (rc < 0)
        return err_prefix(err, "the backfill was in the server, which has ended: ");
    *lost = 0;
    if (out->run != run)
        return err_set(err, ERR_CLOSED,
                       "the backfill was in the server, which has been started anew");
    return 0;
}

static void tell_resumption(struct place *place, const struct backfill_view *view)
{
    if (view->resumed && !place->is_resumption_told)
        backfill_view_tell_resumed(view);
    place->is_resumption_told = place->is_resumption_told || view->resumed;
}

/* Until the run has ended. */
static int watch(struct place *place, int64_t run, struct backfill_view *out, struct err *err)
{
    struct backfill_line line = {.is_terminal = isatty(STDERR_FILENO)};
    bool is_told = false;
    int lost = 0, rc;

    while ((rc = check_run(place, run, out, &lost, err)) == 0) {
        if (lost == 0)
            tell_resumption(place, out);
        if (lost == 0 && strcmp(out->state, "running") != 0)
            break;
        if (lost == 0)
            backfill_line_show(&line, out);
        if (interrupts && !is_told) {
            is_told = true;
            stop(place);
            continue;
        }
        wait_a_little();
    }
    backfill_line_clear(&line);
    return rc;
}

static int run_and_watch(struct place *place, const struct backfill_request *request,
                         struct backfill_view *out, struct err *err)
{
    int64_t run;
    int rc = start(place, request, &run, err);
    bool may_have_begun = rc == 0 || rc == ERR_IO; /* ERR_IO: the answer was cut off */

    if (rc == 0)
        rc = watch(place, run, out, err);
    if (rc < 0 && may_have_begun)
        command_complain(GOES_ON);
    return rc;
}

/* ------------------------------------------------------------------------- what WorkOS no longer has */

static bool can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static bool ask(const struct backfill_view *view)
{
    char stale[256], answer[16];

    backfill_view_name_stale(view, stale, sizeof(stale));
    fprintf(stderr, "not at WorkOS any more: %s. Remove them here? [y/N] ", stale);
    fflush(stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* The listing is over, and there is something to remove. */
static int remove_if_wanted(struct place *place, struct backfill_request *request,
                            struct backfill_view *view, struct err *err)
{
    bool wanted = ask(view);
    int rc;

    request->prune = wanted ? BACKFILL_REMOVE : BACKFILL_REPORT;
    place->is_resumption_told =
        true; /* it is this command's own listing that the run goes on with */
    rc = run_and_watch(place, request, view, err);
    if (rc == 0 && !wanted)
        printf("nothing was removed\n");
    return rc;
}

/* ------------------------------------------------------------------------- all together */

static void report_stale(const struct backfill_request *request, const struct backfill_view *view)
{
    char stale[256];

    if (request->prune == BACKFILL_REPORT && backfill_view_name_stale(view, stale, sizeof(stale)))
        printf("not at WorkOS any more: %s; authkitd backfill --prune%s --yes removes them\n",
               stale, request->prune_most ? "-most" : "");
}

/* What was deleted here never comes back, so somebody must know; false when there is nothing of the kind. */
static bool tell_missing(const struct backfill_view *view)
{
    char missing[256], text[1024];

    if (!backfill_view_name_missing(view, missing, sizeof(missing)))
        return false;
    snprintf(
        text, sizeof(text),
        "deleted here, and so left out, though WorkOS has them: %s; if --prune removed them by "
        "mistake (the key of another environment?), restore a backup from before that",
        missing);
    command_complain(text);
    return true;
}

/* How the run ended, and the exit code. */
static int tell_end(const struct backfill_view *view)
{
    if (strcmp(view->state, "done") == 0 || strcmp(view->state, "asks") == 0) {
        if (!view->refused[0])
            return EXIT_FINE;
        command_complain(view->refused);
        return EXIT_FAILED;
    }
    command_complain(view->error[0] ? view->error : "stopped");
    command_complain(GOES_ON);
    return EXIT_FAILED;
}

static struct backfill_request make_request(const struct config *config)
{
    bool prune = config->prune || config->prune_most;

    return (struct backfill_request){
        .with_functions = !config->no_handlers,
        .prune = !prune        ? BACKFILL_KEEP
                 : config->yes ? BACKFILL_REMOVE
                 : can_ask()   ? BACKFILL_ASK
                               : BACKFILL_REPORT,
        .prune_most = config->prune_most != 0,
        .pages_per_s = config->pages_per_s,
        .give_up_s = config->give_up_s,
    };
}

static int run_at(struct place *place, struct err *err)
{
    struct backfill_request request = make_request(place->config);
    struct backfill_view *view = calloc(1, sizeof(*view));
    bool is_missing = false;
    int code = EXIT_FAILED;
    int rc = view ? run_and_watch(place, &request, view, err)
                  : err_set(err, ERR_NOMEM, "no memory for the backfill");

    if (rc == 0) {
        backfill_view_sum_up(view);
        backfill_view_tell_recent(view);
        report_stale(&request, view);
        is_missing = tell_missing(view);
        if (strcmp(view->state, "asks") == 0 && !interrupts) {
            rc = remove_if_wanted(place, &request, view, err);
            if (rc == 0 && request.prune == BACKFILL_REMOVE)
                backfill_view_sum_up(view);
        }
    }
    if (rc < 0)
        command_complain(err->text);
    else
        code = tell_end(view);
    if (code == EXIT_FINE && is_missing)
        code = EXIT_FAILED;
    free(view);
    return code;
}

static int backfill(const struct config *config)
{
    struct place place = {.config = config};
    struct lock_holder holder;
    struct err err;
    int code = EXIT_FAILED;
    int rc = lock_peek(config->db, &holder, &err);

    if (rc == ERR_ABSENT)
        rc = open_place(&place, &err);
    if (rc == 0) {
        catch_signals();
        code = run_at(&place, &err);
    } else {
        command_complain(err.text);
    }
    close_place(&place);
    return code;
}

const struct command cmd_backfill = {
    .name = "backfill",
    .summary = "bring in the users, organizations, memberships and invitations that WorkOS has",
    .about =
        "What is new here runs the script's user.created function (organization.created …), once.\n"
        "It may be interrupted at any moment, and goes on there when it is called again. The\n"
        "running server does it, with the WORKOS_API_KEY of its own environment; with no server\n"
        "running on --db this command does it itself.",
    .options = FOR_BACKFILL,
    .run = backfill,
};
