/* SPDX-License-Identifier: MIT */
#include "workos/webhook.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/intake.h"
#include "workos/poller.h"
#include "workos/workos_state.h"

#include <stdlib.h>

struct webhook {
    struct intake intake;
};

static void free_webhook(struct webhook *webhook)
{
    intake_release(&webhook->intake);
    free(webhook);
}

/* With opts.ordered: an event that isn't known yet is the poller's to fetch, if it ever will. It is kept until
 * then, so that our answer holds whatever the Events API brings. */
static enum webhook_result leave_to_poller(struct intake *intake, struct err *err)
{
    int rc = intake_look(intake, err);

    if (rc < 0)
        return WEBHOOK_UNAVAILABLE;
    if (intake->duplicate)
        return WEBHOOK_DUPLICATE;
    switch (poller_expect(intake->workos->poller, &intake->event, intake->has_function)) {
    case POLLER_UNWANTED:
        return WEBHOOK_RECEIVED;
    case POLLER_EXPECTS:
        intake->is_expected = true;
        break;
    case POLLER_LEAVES:
        break;
    }
    return WEBHOOK_PENDING;
}

/* Signed, so it is no stranger's: whoever sends it has our secret, and repeats it for days. */
static void log_invalid(struct workos *workos, const struct err *err)
{
    static const char message[] = "webhook refused: it is signed, but no event";

    if (repeat_may(&workos->repeats, clock_mono_ms(), message, err->text))
        log_warn(message, log_str("endpoint", "webhook"), log_str("code", "invalid_event"),
                 log_str("error", err->text));
}

static enum webhook_result read_event(struct webhook **out, struct workos *workos, const char *body,
                                      size_t body_len, struct err *err)
{
    struct webhook *webhook = malloc(sizeof(*webhook));
    enum webhook_result result = WEBHOOK_PENDING;
    int rc = webhook ? intake_read(&webhook->intake, workos, body, body_len, err)
                     : err_set(err, ERR_NOMEM, "no memory for an event");

    if (rc < 0) {
        free(webhook);
        if (rc == ERR_NOMEM)
            return WEBHOOK_UNAVAILABLE;
        log_invalid(workos, err);
        return WEBHOOK_INVALID;
    }
    if (workos->opts.ordered)
        result = leave_to_poller(&webhook->intake, err);
    if (result == WEBHOOK_PENDING)
        *out = webhook;
    else
        free_webhook(webhook);
    return result;
}

enum webhook_result webhook_open(struct webhook **out, struct workos *workos,
                                 const char *signature_header, const char *body, size_t body_len,
                                 enum signature_status *out_signature, struct err *err)
{
    struct signature_facts facts = {0};

    if (!workos->webhook_keys)
        return WEBHOOK_OFF;
    *out_signature = signature_verify(workos->webhook_keys, signature_header, body, body_len,
                                      clock_wall_ms(), SIGNATURE_WEBHOOK_TOLERANCE_MS, &facts);
    if (*out_signature == SIGNATURE_BROKEN) {
        err_set(err, ERR_NOMEM, "no memory to check a signature");
        return WEBHOOK_UNAVAILABLE;
    }
    if (*out_signature != SIGNATURE_OK) {
        signature_log_refusal("webhook", *out_signature, &facts);
        return WEBHOOK_REFUSED;
    }
    return read_event(out, workos, body, body_len, err);
}

void webhook_begin(struct webhook *webhook, bool is_waited_for, void (*done)(void *arg), void *arg)
{
    intake_begin(&webhook->intake, is_waited_for, done, arg);
}

enum webhook_result webhook_close(struct webhook *webhook, struct err *err)
{
    int rc = intake_outcome(&webhook->intake, err);
    bool is_duplicate = webhook->intake.duplicate;

    free_webhook(webhook);
    if (rc < 0)
        return WEBHOOK_UNAVAILABLE;
    return is_duplicate ? WEBHOOK_DUPLICATE : WEBHOOK_RECEIVED;
}
