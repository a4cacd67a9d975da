/* SPDX-License-Identifier: MIT */
/*
 * webhook - an event comes in.
 *
 * Its signature is verified over the raw body; then it is taken in (intake.h). WEBHOOK_RECEIVED and
 * _DUPLICATE are returned after the COMMIT: the event is on disk, together with everything that its
 * function wrote.
 *
 * With opts.ordered a genuine webhook only wakes the poller (poller.h), which takes the event from the
 * Events API in its turn: WorkOS keeps it there for 90 days, and the poller's place is on disk. An event
 * that the poller will never see is taken in as without opts.ordered.
 *
 * Threads    any, several at once; blocks until the commit.
 */
#ifndef WORKOS_WEBHOOK_H
#define WORKOS_WEBHOOK_H

#include "base/err.h"
#include "workos/signature.h"
#include "workos/workos.h"

enum webhook_result {
    WEBHOOK_RECEIVED,
    WEBHOOK_DUPLICATE,
    WEBHOOK_OFF,        /* no secret is configured */
    WEBHOOK_REFUSED,    /* out_signature says why */
    WEBHOOK_INVALID,    /* genuine, but no event: err says why */
    WEBHOOK_UNAVAILABLE /* not stored; deliver again: err says why */
};

enum webhook_result webhook_receive(struct workos *workos, const char *signature_header,
                                    const char *body, size_t body_len,
                                    enum signature_status *out_signature, struct err *err);

#endif
