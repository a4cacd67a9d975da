/* SPDX-License-Identifier: MIT */
/*
 * webhook - an event comes in.
 *
 * Verified and read on the caller's thread; then, on the writer's, inside one savepoint:
 *   1. into workos_events; an id that is there already ends it (duplicate: nothing runs)
 *   2. the mirror is brought up to date
 *   3. the script's function for the type runs in a savepoint of its own; if it fails, that alone
 *      is undone and the event is kept as 'failed' with the error
 * WEBHOOK_RECEIVED and _DUPLICATE are returned after the COMMIT: the event is on disk, together
 * with everything that its function wrote.
 *
 * Step 3 is put off when an earlier event of the same object is still failed or waiting; and when the
 * writer had so much to do that this event has waited for WEBHOOK_PATIENCE_MS already, since a sender
 * gives up some time (WorkOS's emulator: after 5 s). Then it is 'waiting' on disk, and the answer is
 * the same: the event is ours, and its function runs as soon as there is time.
 *
 * Threads    any, several at once; blocks until the commit.
 */
#ifndef WORKOS_WEBHOOK_H
#define WORKOS_WEBHOOK_H

#include "base/err.h"
#include "workos/signature.h"
#include "workos/workos.h"

enum {
    WEBHOOK_PATIENCE_MS = 4500,
    WEBHOOK_CROWDED_PATIENCE_MS = 100, /* while at least opts.crowd events wait for the writer */
};

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
