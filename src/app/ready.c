/* SPDX-License-Identifier: MIT */
#include "app/ready.h"

#include "base/clock.h"
#include "workos/poller.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* So many intervals without a good reading are no hiccup any more; and never less than that. */
enum { INTERVALS_MAX = 5, AGE_MIN_S = 60 };

/* Since when nothing was read: what there is to miss is younger than that. */
static int64_t poll_age_s(const struct poller_status *status)
{
    int64_t since_ms = status->last_good_ms ? status->last_good_ms : status->started_ms;
    int64_t age_ms = clock_wall_ms() - since_ms;

    return age_ms > 0 ? age_ms / 1000 : 0;
}

void ready_answer(struct workos *workos, int64_t poll_s, struct http_response *response)
{
    struct poller *poller = workos_poller(workos);
    struct poller_status status;
    int64_t age_s, most_s = poll_s * INTERVALS_MAX > AGE_MIN_S ? poll_s * INTERVALS_MAX : AGE_MIN_S;
    char message[ERR_TEXT_MAX + 128];

    if (!poller) {
        buf_puts(&response->body, "{\"status\":\"ready\",\"poll\":null}");
        return;
    }
    poller_get_status(poller, &status);
    age_s = poll_age_s(&status);
    if (age_s > most_s) {
        snprintf(message, sizeof(message), "the Events API was not read for %" PRId64 " s%s%s",
                 age_s, status.is_failing ? ": " : "", status.is_failing ? status.problem : "");
        http_response_error(response, 503, "poll_failing", message);
        return;
    }
    buf_printf(&response->body,
               "{\"status\":\"ready\",\"poll\":{\"age_s\":%" PRId64 ",\"failing\":%s", age_s,
               status.is_failing ? "true" : "false");
    if (status.is_failing) {
        buf_puts(&response->body, ",\"problem\":");
        buf_put_json_string(&response->body, status.problem, strlen(status.problem));
    }
    buf_puts(&response->body, "}}");
}

static void put_gauge(struct buf *out, const char *name, const char *help, int64_t value)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %" PRId64 "\n", name, help, name, name,
               value);
}

void ready_metrics(struct workos *workos, struct http_response *response)
{
    struct poller *poller = workos_poller(workos);
    struct poller_status status;

    response->content_type = "text/plain; version=0.0.4";
    put_gauge(&response->body, "authkitd_up", "The process serves.", 1);
    if (!poller)
        return;
    poller_get_status(poller, &status);
    put_gauge(&response->body, "authkitd_poll_age_seconds",
              "Since the last good reading of the Events API.", poll_age_s(&status));
    put_gauge(&response->body, "authkitd_poll_failing",
              "1 when the last reading of the Events API failed.", status.is_failing);
}
