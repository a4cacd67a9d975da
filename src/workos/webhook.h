/* SPDX-License-Identifier: MIT */
/*
 * webhook - an event comes in.
 *
 *     webhook_open --> webhook_begin --> … the writer … --> done() --> webhook_close
 *
 * Its signature is verified over the raw body, and it is read; then it is taken in (intake.h), while no
 * thread need wait. WEBHOOK_RECEIVED and _DUPLICATE are the outcome after the COMMIT: the event is on
 * disk, together with everything that its function wrote.
 *
 * With opts.ordered a genuine webhook only wakes the poller (poller.h), which takes the event from the
 * Events API in its turn. The event is kept until then; what the Events API doesn't bring is taken in from
 * there. An event that the poller will never see is taken in as without opts.ordered.
 *
 * One that is signed and no event is logged, as one whose signature isn't right is (signature.h), but
 * under a limit that strangers have no part in.
 *
 * Threads    any, several at once. webhook_open blocks with opts.ordered only (it asks the writer
 *            whether the event is known).
 * Ownership  a webhook is the caller's from webhook_open to webhook_close, and borrows the body.
 */
#ifndef WORKOS_WEBHOOK_H
#define WORKOS_WEBHOOK_H

#include "base/err.h"
#include "workos/signature.h"
#include "workos/workos.h"

enum webhook_result {
    WEBHOOK_RECEIVED,
    WEBHOOK_DUPLICATE,
    WEBHOOK_PENDING,    /* of webhook_open only: it is to be begun */
    WEBHOOK_OFF,        /* no secret is configured */
    WEBHOOK_REFUSED,    /* out_signature says why */
    WEBHOOK_INVALID,    /* genuine, but no event: err says why */
    WEBHOOK_UNAVAILABLE /* not stored; deliver again: err says why */
};

struct webhook;

/* Sets *out with WEBHOOK_PENDING only. */
enum webhook_result webhook_open(struct webhook **out, struct workos *workos,
                                 const char *signature_header, const char *body, size_t body_len,
                                 enum signature_status *out_signature, struct err *err) MUST_CHECK;

/* done is called once, on the writer's thread or before this returns; it may close the webhook.
 * is_waited_for: as of intake_begin (intake.h). */
void webhook_begin(struct webhook *webhook, bool is_waited_for, void (*done)(void *arg), void *arg);

/* After done: the outcome. */
enum webhook_result webhook_close(struct webhook *webhook, struct err *err);

#endif
