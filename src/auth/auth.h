/* SPDX-License-Identifier: MIT */
/*
 * auth - who calls: AuthKit's access tokens, checked against the keys of WorkOS.
 *
 * Of a request's Authorization header becomes a session: whose token it is and what its claims say,
 * or an answer that tells why there is none. All that makes a token no good is one code,
 * "token_invalid": a forger shall not learn how far he came. The log knows more, at debug; and at warn
 * when a token is genuine and our own configuration doesn't take it, which an operator has to mend.
 *
 *    status             code                    when
 *    AUTH_OK            ""
 *    AUTH_ABSENT        token_missing           no header, another scheme, or no token behind it
 *    AUTH_REFUSED       token_invalid           malformed, forged, of an unknown key, not for us
 *                       token_expired           genuine and for us, and its time is over
 *                       token_not_yet_valid     genuine and for us, and its time has not come
 *    AUTH_UNAVAILABLE   keys_unavailable        no key set could be read yet (or no memory)
 *                       tokens_off              there is no struct auth
 *
 * Threads    auth_start, auth_stop: main, after fetch_set_up and while no auth_check runs. auth_check:
 *            any, several at once; it may wait for a key set for three seconds (keys.h). auth_refuse:
 *            any.
 * Ownership  opts is copied, its texts too. A session is the caller's: auth_session_release.
 * Errors     ERR_INVALID: the URL of the keys. ERR_NOMEM.
 * Not here   whether the user is in the database, and what a role may do.
 */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include "auth/keys.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/metric.h"

struct auth;

struct auth_opts {
    const char *jwks_url;  /* http(s)://… or file:… */
    const char *client_id; /* NULL: not known, and any is taken */
    const char *issuers;   /* separated by commas */
    const char *audiences; /* separated by commas; NULL: the client id */
    const char *user_agent;
    struct keys_pace pace; /* zeros: the usual */
};

/* Begins to fetch the keys, and waits for nothing. */
int auth_start(struct auth **out, const struct auth_opts *opts, struct err *err) MUST_CHECK;

/* The server stops: a running fetch is cancelled, and who waits gets AUTH_UNAVAILABLE. NULL is fine,
 * here and below. */
void auth_refuse(struct auth *auth);
void auth_stop(struct auth *auth);

enum auth_status {
    AUTH_OK,
    AUTH_ABSENT,      /* no token */
    AUTH_REFUSED,     /* no good token: 401 */
    AUTH_UNAVAILABLE, /* no keys to check it with: 503 */
};

struct auth_session {
    enum auth_status status;
    const char *code;    /* static; "" when OK */
    const char *message; /* static; "" when OK */
    struct buf text;     /* the claims' JSON, which claims borrows from */
    struct json claims;  /* read when status is OK */
    char *user_id;       /* "sub", decoded; NULL unless OK */
};

/* authorization: the header's value, or NULL. out is filled in any case. */
void auth_check(struct auth *auth, const char *authorization, struct auth_session *out);
void auth_session_release(struct auth_session *session);

/* What became of the tokens that were checked. Too early is invalid; no keys, or no memory, are
 * unavailable. */
enum {
    TOKENS_OK,
    TOKENS_MISSING,
    TOKENS_INVALID,
    TOKENS_EXPIRED,
    TOKENS_UNAVAILABLE,
    TOKENS_OUTCOMES
};
extern const char *const auth_outcome_names[TOKENS_OUTCOMES];

/* As many counters as there are outcomes. Any thread. */
const struct metric_counter *auth_counts(const struct auth *auth);

/* How the key set is. Any thread. */
void auth_get_status(struct auth *auth, struct keys_status *out);

#endif
