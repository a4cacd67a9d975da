/* SPDX-License-Identifier: MIT */
#include "admin/ready.h"

#include "admin/admin.h"
#include "admin/certificate_status.h"
#include "admin/script_status.h"
#include "auth/auth.h"
#include "base/clock.h"
#include "workos/counts.h"
#include "workos/poller.h"
#include "workos/tally.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* So many intervals without a good reading are no hiccup any more; and never less than that. */
enum { INTERVALS_MAX = 5, AGE_MIN_S = 60, TEXT_MAX = ERR_TEXT_MAX + 256, LIST_MAX = 65536 };

/* A certificate is renewed before so little is left of it; one that lives for days only, before a quarter. */
static const int64_t renewal_ms = 7 * 86400 * INT64_C(1000);

struct findings {
    const char *code; /* of the first problem; NULL: there is none */
    char text[TEXT_MAX];
    struct buf problems, warnings; /* JSON strings, separated by commas */
};

static void add(struct buf *list, const char *text)
{
    if (list->len)
        buf_putc(list, ',');
    buf_put_json_string(list, text, strlen(text));
}

PRINTF_LIKE(3, 4)
static void add_problem(struct findings *found, const char *code, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    add(&found->problems, text);
    if (found->code)
        return;
    found->code = code;
    snprintf(found->text, sizeof(found->text), "%s", text);
}

PRINTF_LIKE(2, 3)
static void add_warning(struct findings *found, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    add(&found->warnings, text);
}

static void look_at_poll(struct findings *found, const struct poller_status *status, int64_t poll_s)
{
    int64_t age_s = poller_age_s(status);
    int64_t most_s = poll_s * INTERVALS_MAX > AGE_MIN_S ? poll_s * INTERVALS_MAX : AGE_MIN_S;

    if (age_s > most_s)
        add_problem(found, "poll_failing", "the Events API was not read for %" PRId64 " s%s%s",
                    age_s, status->is_failing ? ": " : "",
                    status->is_failing ? status->problem : "");
    else if (status->is_failing)
        add_warning(found, "the last reading of the Events API failed: %s", status->problem);
    if (status->unseen > 0)
        add_warning(found,
                    "the Events API has not shown %" PRId64
                    " event%s that webhooks brought; what it doesn't show is taken from them after "
                    "%d minutes, out of its order: is WORKOS_API_KEY of the same environment?",
                    status->unseen, status->unseen == 1 ? "" : "s", POLLER_PATIENCE_MS / 60000);
}

static void look_at_disk(struct findings *found, struct workos *workos)
{
    struct writer_state state;
    char since[CLOCK_TEXT_MAX];

    workos_get_state(workos, &state);
    if (!state.full_since_ms)
        return;
    clock_format_ms(state.full_since_ms, since);
    add_problem(found, "disk_full",
                "the disk has been full since %s: nothing can be stored until there is room, and "
                "WorkOS delivers again what is turned away",
                since);
}

static void look_at_keys(struct findings *found, struct auth *auth)
{
    struct keys_status status;

    if (!auth)
        return;
    auth_get_status(auth, &status);
    if (!status.is_failing)
        return;
    if (status.has_keys)
        add_warning(found,
                    "the key set of access tokens can't be read; the keys that are there stay: %s",
                    status.problem);
    else
        add_problem(found, "keys_unavailable",
                    "access tokens can't be checked, since their key set could not be read yet: %s",
                    status.problem);
}

static void look_at_script(struct findings *found, struct script_status *script)
{
    struct script_loads loads;
    char refused[CLOCK_TEXT_MAX], loaded[CLOCK_TEXT_MAX];

    script_status_get(script, &loads);
    if (!loads.refused_ms)
        return;
    clock_format_ms(loads.refused_ms, refused);
    clock_format_ms(loads.loaded_ms, loaded);
    add_warning(found, "the load of the script at %s was refused; the one of %s goes on: %s",
                refused, loaded, loads.problem);
}

static void look_at_validity(struct findings *found, const struct certificate_load *load)
{
    int64_t now_ms = clock_wall_ms(), quarter_ms = (load->to_ms - load->from_ms) / 4;
    int64_t least_ms = quarter_ms < renewal_ms ? quarter_ms : renewal_ms;
    char from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];

    clock_format_ms(load->from_ms, from);
    clock_format_ms(load->to_ms, to);
    if (now_ms > load->to_ms)
        add_warning(found, "the certificate expired at %s: renew it, then authkitd reload", to);
    else if (now_ms < load->from_ms)
        add_warning(found, "the certificate isn't valid before %s", from);
    else if (load->to_ms - now_ms < least_ms)
        add_warning(found, "the certificate expires at %s: renew it, then authkitd reload", to);
}

static void look_at_certificate(struct findings *found, struct certificate_status *certificate)
{
    struct certificate_load load;
    char refused[CLOCK_TEXT_MAX];

    if (!certificate)
        return;
    certificate_status_get(certificate, &load);
    if (load.refused_ms) {
        clock_format_ms(load.refused_ms, refused);
        add_warning(found,
                    "the certificate that was read at %s was refused; the one before goes on: %s",
                    refused, load.problem);
    }
    look_at_validity(found, &load);
}

static void look_at_events(struct findings *found, struct tally *tally)
{
    struct tally_counts counts;
    int64_t dead;

    tally_get(tally, &counts);
    dead = counts.events[EVENT_DEAD];
    if (dead > 0)
        add_warning(found,
                    "%" PRId64
                    " event%s dead: see authkitd events --status dead; authkitd retry puts "
                    "%s back to work",
                    dead, dead == 1 ? " is" : "s are", dead == 1 ? "it" : "them");
}

static void put_poll(struct buf *out, const struct poller_status *status)
{
    buf_printf(out, "{\"age_s\":%" PRId64 ",\"failing\":%s", poller_age_s(status),
               status->is_failing ? "true" : "false");
    if (status->is_failing) {
        buf_puts(out, ",\"problem\":");
        buf_put_json_string(out, status->problem, strlen(status->problem));
    }
    buf_putc(out, '}');
}

static void put_findings(struct buf *out, const struct findings *found)
{
    buf_printf(out, "{\"status\":\"%s\",\"problems\":[%s],\"warnings\":[%s]",
               found->code ? "trouble" : "ready", buf_text(&found->problems),
               buf_text(&found->warnings));
    if (!found->code)
        return;
    buf_printf(out, ",\"error\":{\"code\":\"%s\",\"message\":", found->code);
    buf_put_json_string(out, found->text, strlen(found->text));
    buf_putc(out, '}');
}

void ready_answer(struct admin *admin, struct http_response *response)
{
    struct findings found = {.problems = BUF_INIT(LIST_MAX), .warnings = BUF_INIT(LIST_MAX)};
    struct poller *poller = workos_poller(admin->workos);
    struct poller_status poll;

    look_at_disk(&found, admin->workos);
    if (poller) {
        poller_get_status(poller, &poll);
        look_at_poll(&found, &poll, admin->poll_s);
    }
    look_at_keys(&found, admin->auth);
    look_at_script(&found, admin->script);
    look_at_certificate(&found, admin->certificate);
    look_at_events(&found, admin->tally);
    response->status = found.code ? 503 : 200;
    put_findings(&response->body, &found);
    buf_puts(&response->body, ",\"poll\":");
    if (poller)
        put_poll(&response->body, &poll);
    else
        buf_puts(&response->body, "null");
    buf_putc(&response->body, '}');
    buf_release(&found.problems);
    buf_release(&found.warnings);
}
