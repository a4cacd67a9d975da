/* SPDX-License-Identifier: MIT */
/*
 * action - WorkOS asks: may this person register, may this person sign in?
 *
 * The request says what it is by its `object`: "user_registration_action_context" is answered by
 * the script's user_registration, "authentication_action_context" by authentication (WORKOS.md
 * section 4). The answer is
 *     {"object":"…_action_response","payload":{"timestamp":…,"verdict":"Allow"},"signature":"…"}
 * compact and in that order; "error_message" follows the verdict of a denial that has one, cut at
 * ACTION_MESSAGE_MAX UTF-16 units. Signed is "<timestamp>.<payload exactly as it stands there>".
 *
 * Threads    any, several at once; blocks until the function has run, and for the commit only when
 *            it wrote something.
 */
#ifndef WORKOS_ACTION_H
#define WORKOS_ACTION_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/signature.h"
#include "workos/workos.h"

enum { ACTION_MESSAGE_MAX = 500 };

enum action_result {
    ACTION_DECIDED,     /* response holds the signed answer */
    ACTION_OFF,         /* no secret is configured */
    ACTION_REFUSED,     /* out_signature says why */
    ACTION_INVALID,     /* genuine, but no action: err says why */
    ACTION_NO_FUNCTION, /* the script has none for it */
    ACTION_FAILED,      /* the function failed, and the answer isn't to be made up */
    ACTION_UNAVAILABLE  /* too busy, or the disk failed: err says why */
};

enum action_result action_decide(struct workos *workos, const char *signature_header,
                                 const char *body, size_t body_len, struct buf *response,
                                 enum signature_status *out_signature, struct err *err);

/* The answer for a verdict, signed with one of the secrets; name is "user_registration" or
 * "authentication". */
int action_write_response(const struct signing_keys *keys, size_t key, const char *name,
                          const struct script_verdict *verdict, int64_t timestamp_ms,
                          struct buf *response, struct err *err) MUST_CHECK;

#endif
