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
 *     action_open --> action_begin --> … the writer … --> done() --> action_close
 *
 * It is done when its function has run; it waits for the commit only when that wrote something.
 *
 * What is signed, and no action or one that the script has no function for, is logged, under a limit
 * that strangers have no part in.
 *
 * Threads    any, several at once; nothing blocks.
 * Ownership  an action is the caller's from action_open to action_close, and borrows the body.
 */
#ifndef WORKOS_ACTION_H
#define WORKOS_ACTION_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/signature.h"
#include "workos/workos.h"

enum { ACTION_MESSAGE_MAX = 500, ACTION_NAMES = 2 };

/* Those that WorkOS is known to ask for. */
extern const char *const action_names[ACTION_NAMES];

enum action_result {
    ACTION_DECIDED,     /* response holds the signed answer */
    ACTION_PENDING,     /* of action_open only: it is to be begun */
    ACTION_OFF,         /* no secret is configured */
    ACTION_REFUSED,     /* out_signature says why */
    ACTION_INVALID,     /* genuine, but no action: err says why */
    ACTION_NO_FUNCTION, /* the script has none for it */
    ACTION_FAILED,      /* the function failed, and the answer isn't to be made up */
    ACTION_UNAVAILABLE  /* too busy, or the disk failed: err says why */
};

struct action;

/* Sets *out with ACTION_PENDING only. */
enum action_result action_open(struct action **out, struct workos *workos,
                               const char *signature_header, const char *body, size_t body_len,
                               enum signature_status *out_signature, struct err *err) MUST_CHECK;

/* As webhook_begin (webhook.h); done may close the action. */
void action_begin(struct action *action, bool is_waited_for, void (*done)(void *arg), void *arg);

/* After done: the outcome. */
enum action_result action_close(struct action *action, struct buf *response, struct err *err);

/* The answer for a verdict, signed with one of the secrets; name is "user_registration" or
 * "authentication". */
int action_write_response(const struct signing_keys *keys, size_t key, const char *name,
                          const struct script_verdict *verdict, int64_t timestamp_ms,
                          struct buf *response, struct err *err) MUST_CHECK;

#endif
