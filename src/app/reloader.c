/* SPDX-License-Identifier: MIT */
#include "app/reloader.h"

#include "app/advice.h"
#include "app/handlers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_MAX = 65536, NAMES_MAX = 65536, ADVICE_MAX = 20, LOOK_MS = 20 };

/* Its ticket. It is answered before anybody can ask for another one: r->asked is 1 until reloader_start returns. */
#define FIRST_LOAD 1U

enum phase { IDLE, LOADING, INSTALLING };

struct reloader {
    struct reloader_opts opts;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of the following did */
    enum phase phase;       /* guarded by lock, as all that follows */
    uint64_t asked;         /* how often somebody did */
    uint64_t answered;      /* how many of them have their outcome: the one that is below */
    bool refusing;
    bool ended;
    int rc;
    struct err err;
    struct buf report;
};

/* ------------------------------------------------------------------------- what is logged */

/* A line of a report, by how it begins. The last kind is any other. */
static const struct {
    const char *start;
    enum log_level level;
    const char *message;
} report_lines[] = {
    {WORKOS_LOST, LOG_LEVEL_WARN, "without a function any more"},
    {"warning: ", LOG_LEVEL_WARN, "schema"},
    {"note: ", LOG_LEVEL_INFO, "note"},
    {"", LOG_LEVEL_INFO, "schema changed"},
};

static void log_report_line(const char *line, size_t len)
{
    size_t kind = 0, skip;

    while (!text_starts_with(line, report_lines[kind].start))
        kind++;
    skip = strlen(report_lines[kind].start);
    log_write(report_lines[kind].level, report_lines[kind].message,
              LOG_FIELDS(log_bytes("what", line + skip, len - skip)));
}

static void log_report(const struct buf *report)
{
    const char *at = buf_text(report);

    while (*at) {
        size_t len = strcspn(at, "\n");

        log_report_line(at, len);
        at += len + (at[len] == '\n');
    }
}

static void tell_outcome(const struct reloader_opts *opts, int rc, const struct err *err)
{
    char status[NOTIFY_STATUS_MAX], now[CLOCK_TEXT_MAX];

    clock_format_ms(clock_wall_ms(), now);
    if (rc < 0)
        snprintf(status, sizeof(status), "script refused; the old one goes on: %.900s", err->text);
    else
        snprintf(status, sizeof(status), "serving; script loaded at %s", now);
    notify_reloaded(opts->notify, status);
}

/* ------------------------------------------------------------------------- one load */

/* A script's names, and its warnings. They are copied before it is installed: from then on it is the writer's,
 * and may be freed. */
struct names {
    struct buf events, actions, routes, warnings;
};

static void take_names(struct names *out, const struct script *script)
{
    out->events = out->actions = out->routes = out->warnings = BUF_INIT(NAMES_MAX);
    buf_puts(&out->events, script_event_names(script));
    buf_puts(&out->actions, script_action_names(script));
    buf_puts(&out->routes, script_route_names(script));
    buf_puts(&out->warnings, script_warnings(script));
}

static void release_names(struct names *names)
{
    buf_release(&names->events);
    buf_release(&names->actions);
    buf_release(&names->routes);
    buf_release(&names->warnings);
}

static const char *or_none(const struct buf *names)
{
    return names->len ? buf_text(names) : "none";
}

static void log_script(const struct config *config, const struct names *names)
{
    log_info("script loaded", log_str("file", config->handlers),
             log_str("events", or_none(&names->events)),
             log_str("actions", or_none(&names->actions)),
             log_str("routes", or_none(&names->routes)));
    if (!config->action_secret && names->actions.len)
        log_warn("the script has action functions, but the action endpoint is off: set "
                 "WORKOS_ACTION_SECRET");
}

static void put_warning(struct buf *report, const char *text, size_t len)
{
    buf_puts(report, report->len ? "\nwarning: " : "warning: ");
    buf_put(report, text, len);
}

/* Lines of advice, into the log and the report: those for which there is room. */
static void put_advice(const char *message, const char *advice, struct buf *report)
{
    static const char more[] = "there are more of them: authkitd check names all";
    int left = ADVICE_MAX;

    while (*advice && left-- > 0) {
        size_t len = strcspn(advice, "\n");

        log_warn(message, log_bytes("what", advice, len));
        put_warning(report, advice, len);
        advice += len + (advice[len] == '\n');
    }
    if (*advice) {
        log_warn(message, log_str("what", more));
        put_warning(report, more, strlen(more));
    }
}

/* What check says of the script and of the names of its events: who only looks for an error here must not miss
 * that a function never runs. */
static void advise(const struct config *config, const struct names *names, struct buf *report)
{
    struct buf advice = BUF_INIT(REPORT_MAX);

    put_advice("script", buf_text(&names->warnings), report);
    advice_put_event_names(&advice, buf_text(&names->events), config);
    put_advice("event type", buf_text(&advice), report);
    buf_release(&advice);
}

/* certificate: what is wrong with it; NULL: nothing. The script is the service's when this returns 0, and
 * gone otherwise. */
static int install(const struct reloader_opts *opts, struct script *script,
                   const struct err *certificate, struct buf *report, struct err *err)
{
    struct names names;
    int rc;

    take_names(&names, script);
    rc = workos_install(opts->workos, script, report, err);
    if (rc < 0) {
        script_free(script);
    } else {
        log_report(report);
        advise(opts->config, &names, report);
        log_script(opts->config, &names);
        if (certificate)
            put_warning(report, certificate->text, strlen(certificate->text));
        script_status_loaded(opts->status, buf_text(&names.events), buf_text(&names.actions),
                             buf_text(&names.routes), report);
    }
    release_names(&names);
    return rc;
}

/* On failure err is what an admin who asked for it is warned of, too. */
static int load_certificate(const struct reloader_opts *opts, struct err *err)
{
    int rc = opts->tls ? tls_server_reload(opts->tls, err) : 0;
    int64_t from_ms, to_ms;

    if (rc < 0) {
        log_error("certificate refused; the old one goes on", log_str("error", err->text));
        certificate_status_refused(opts->certificate, err->text);
        return err_prefix(err, "certificate refused; the old one goes on: ");
    }
    if (!opts->tls)
        return 0;
    log_info("certificate loaded", log_str("file", opts->config->tls_cert));
    tls_server_get_dates(opts->tls, &from_ms, &to_ms);
    certificate_status_loaded(opts->certificate, from_ms, to_ms);
    rc = tls_server_check_dates(opts->tls, err);
    if (rc < 0)
        log_warn("certificate", log_str("what", err->text));
    return rc;
}

/* False, and the phase as it was, when there shall be no more loads: then the other side of the wall
 * between LOADING and INSTALLING may be gone already. */
static bool enter(struct reloader *r, enum phase phase)
{
    bool may;

    pthread_mutex_lock(&r->lock);
    may = !r->refusing;
    if (may)
        r->phase = phase;
    pthread_mutex_unlock(&r->lock);
    return may;
}

static bool is_refusing(struct reloader *r)
{
    bool refusing;

    pthread_mutex_lock(&r->lock);
    refusing = r->refusing;
    pthread_mutex_unlock(&r->lock);
    return refusing;
}

static int closing(struct err *err)
{
    return err_set(err, ERR_CLOSED, "the server is stopping");
}

/* In INSTALLING, the lock not held. err is about the script; the certificate's is NULL when that is right. */
static int load(struct reloader *r, const struct err *certificate, struct buf *report,
                struct err *err)
{
    struct script *script = NULL;
    int rc;

    script_status_reading(r->opts.status);
    if (!enter(r, LOADING))
        return closing(err);
    rc = handlers_load(&script, r->opts.config, err);
    if (!enter(r, INSTALLING)) {
        script_free(script);
        return closing(err);
    }
    if (rc < 0)
        return rc;
    log_debug("script read; installing it", log_str("file", r->opts.config->handlers));
    return install(&r->opts, script, certificate, report, err);
}

/* ------------------------------------------------------------------------- the thread */

static int load_and_tell(struct reloader *r, struct buf *report, struct err *err)
{
    struct err certificate;
    bool is_wrong;
    int rc;

    notify_reloading(r->opts.notify);
    is_wrong = load_certificate(&r->opts, &certificate) < 0;
    rc = load(r, is_wrong ? &certificate : NULL, report, err);
    if (rc == ERR_CLOSED && is_refusing(r))
        return rc;
    if (rc < 0)
        log_error("script refused; the old one goes on", log_str("file", r->opts.config->handlers),
                  log_str("error", err->text));
    if (rc < 0)
        script_status_refused(r->opts.status, err->text);
    tell_outcome(&r->opts, rc, err);
    if (rc < 0 && is_wrong)
        return err_prefix(err, "%s\n", certificate.text);
    return rc;
}

/* Called and left with the lock held. */
static void answer(struct reloader *r, uint64_t ticket, int rc, const struct err *err,
                   struct buf *report)
{
    buf_release(&r->report);
    r->report = *report;
    *report = BUF_INIT(REPORT_MAX);
    r->rc = rc;
    r->err = *err;
    r->answered = ticket;
    r->phase = IDLE;
    pthread_cond_broadcast(&r->changed);
}

/* The first load, 1, is the start's: its outcome is told by who starts the server. */
static int load_as_asked(struct reloader *r, uint64_t ticket, struct buf *report, struct err *err)
{
    return ticket == FIRST_LOAD ? load(r, NULL, report, err) : load_and_tell(r, report, err);
}

static void *reloader_main(void *arg)
{
    struct reloader *r = arg;
    struct buf report = BUF_INIT(REPORT_MAX);

    pthread_mutex_lock(&r->lock);
    while (!r->refusing) {
        uint64_t ticket = r->asked; /* who asks from here on gets the next load */
        struct err err = {0};
        int rc;

        if (r->answered == ticket) {
            pthread_cond_wait(&r->changed, &r->lock);
            continue;
        }
        r->phase = INSTALLING;
        pthread_mutex_unlock(&r->lock);
        rc = load_as_asked(r, ticket, &report, &err);
        pthread_mutex_lock(&r->lock);
        answer(r, ticket, rc, &err, &report);
    }
    r->ended = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    buf_release(&report);
    return NULL;
}

/* ------------------------------------------------------------------------- asking */

void reloader_ask(struct reloader *reloader)
{
    pthread_mutex_lock(&reloader->lock);
    reloader->asked++;
    pthread_cond_broadcast(&reloader->changed);
    pthread_mutex_unlock(&reloader->lock);
}

int reloader_run(struct reloader *reloader, struct buf *report, struct err *err)
{
    uint64_t ticket;
    int rc;

    pthread_mutex_lock(&reloader->lock);
    ticket = ++reloader->asked;
    pthread_cond_broadcast(&reloader->changed);
    while (reloader->answered < ticket && !reloader->refusing)
        pthread_cond_wait(&reloader->changed, &reloader->lock);
    if (reloader->answered < ticket) {
        rc = closing(err);
    } else {
        buf_put(report, buf_text(&reloader->report), reloader->report.len);
        *err = reloader->err;
        rc = reloader->rc;
    }
    pthread_mutex_unlock(&reloader->lock);
    return rc;
}

/* ------------------------------------------------------------------------- start and stop */

/* A signal doesn't wake who waits for a condition, so the question is asked again and again. */
static int wait_for_first(struct reloader *r, bool (*should_stop)(void), struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&r->lock);
    while (r->answered < FIRST_LOAD && !should_stop()) {
        struct timespec until = thread_after_ms(LOOK_MS);

        (void)pthread_cond_clockwait(&r->changed, &r->lock, CLOCK_MONOTONIC, &until);
    }
    if (r->answered < FIRST_LOAD || should_stop()) {
        rc = closing(err);
    } else if (r->rc < 0) {
        *err = r->err;
        rc = r->rc;
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int reloader_start(struct reloader **out, const struct reloader_opts *opts,
                   bool (*should_stop)(void), struct err *err)
{
    struct reloader *r = calloc(1, sizeof(*r));
    int rc;

    if (!r)
        return err_set(err, ERR_NOMEM, "no memory for reloads");
    r->opts = *opts;
    r->report = BUF_INIT(REPORT_MAX);
    r->asked = FIRST_LOAD;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    rc = thread_start(&r->thread, "reloader", reloader_main, r, err);
    if (rc < 0) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return rc;
    }
    *out = r;
    return wait_for_first(r, should_stop, err);
}

void reloader_refuse(struct reloader *reloader)
{
    if (!reloader)
        return;
    pthread_mutex_lock(&reloader->lock);
    reloader->refusing = true;
    pthread_cond_broadcast(&reloader->changed);
    pthread_mutex_unlock(&reloader->lock);
}

enum reloader_end reloader_stop(struct reloader *reloader, int wait_ms)
{
    struct timespec until = thread_after_ms(wait_ms);
    enum reloader_end end;
    int rc = 0;

    if (!reloader)
        return RELOADER_ENDED;
    pthread_mutex_lock(&reloader->lock);
    while (!reloader->ended && reloader->phase != LOADING && rc == 0)
        rc = pthread_cond_clockwait(&reloader->changed, &reloader->lock, CLOCK_MONOTONIC, &until);
    end = reloader->ended              ? RELOADER_ENDED
          : reloader->phase == LOADING ? RELOADER_LEFT_LOADING
                                       : RELOADER_LEFT_INSTALLING;
    pthread_mutex_unlock(&reloader->lock);
    if (end != RELOADER_ENDED) {
        pthread_detach(reloader->thread);
        return end;
    }
    pthread_join(reloader->thread, NULL);
    buf_release(&reloader->report);
    pthread_cond_destroy(&reloader->changed);
    pthread_mutex_destroy(&reloader->lock);
    free(reloader);
    return RELOADER_ENDED;
}
