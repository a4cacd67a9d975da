/* SPDX-License-Identifier: MIT */
#include "workos/webhook.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/intake.h"
#include "workos/poller.h"
#include "workos/workos_state.h"

static enum webhook_result take_in(struct intake *intake, struct err *err)
{
    if (intake_run(intake, err) < 0)
        return WEBHOOK_UNAVAILABLE;
    return intake->duplicate ? WEBHOOK_DUPLICATE : WEBHOOK_RECEIVED;
}

/* With opts.ordered: an event that isn't known yet is the poller's to fetch, if it ever will. */
static enum webhook_result leave_to_poller(struct intake *intake, struct err *err)
{
    int rc = intake_look(intake, err);

    if (rc < 0)
        return WEBHOOK_UNAVAILABLE;
    if (intake->duplicate)
        return WEBHOOK_DUPLICATE;
    if (!poller_expect(intake->workos->poller, &intake->event, intake->has_function))
        return take_in(intake, err);
    return WEBHOOK_RECEIVED;
}

static enum webhook_result receive_event(struct workos *workos, const char *body, size_t body_len,
                                         struct err *err)
{
    struct intake intake;
    enum webhook_result result;
    int rc = intake_read(&intake, workos, body, body_len, err);

    if (rc < 0)
        return rc == ERR_NOMEM ? WEBHOOK_UNAVAILABLE : WEBHOOK_INVALID;
    result = workos->opts.ordered ? leave_to_poller(&intake, err) : take_in(&intake, err);
    intake_release(&intake);
    return result;
}

enum webhook_result webhook_receive(struct workos *workos, const char *signature_header,
                                    const char *body, size_t body_len,
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
    return receive_event(workos, body, body_len, err);
}
