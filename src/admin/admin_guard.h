/* SPDX-License-Identifier: MIT */
/*
 * admin_guard - who may talk to the admin listener.
 *
 * Two questions, in this order:
 *
 *   Is it for us?      A page of a stranger, open in the operator's browser, must not reach a listener
 *                      on loopback. So the Host must be a loopback name or address, or the address of
 *                      --admin-listen (against DNS rebinding: there it would be the stranger's name),
 *                      the Origin, if there is one, the same host, and what the browser says of the
 *                      page (Sec-Fetch-Site) ours, but for a person who follows a link.
 *   Is it one of us?   Without a token everybody who can reach the listener is. With one, it comes with
 *                      every request (Authorization: Bearer …), or once to admin_guard_sign_in, for a
 *                      cookie that is good for some hours.
 *
 * The cookie holds a random number and not the token, since browsers hand the cookies of one port on a
 * host to all of them; its name has the port as the browser sees it, so that two servers don't take it
 * from each other. Tokens are compared in constant time, and so are cookies. Who was wrong too often
 * must wait, by address.
 *
 * Threads    admin_guard_new, _free: main. The rest: any, several at once.
 * Ownership  opts isn't kept; the token is kept as a digest.
 * Errors     ERR_NOMEM.
 * Limits     ADMIN_GUARD_SESSIONS people at once: one more ends the oldest one's session. A restart ends
 *            all.
 */
#ifndef ADMIN_ADMIN_GUARD_H
#define ADMIN_ADMIN_GUARD_H

#include "base/err.h"
#include "http/message.h"

#include <stdint.h>

enum {
    ADMIN_GUARD_SESSIONS = 32,
    ADMIN_GUARD_SESSION_MS = 12 * 3600 * 1000,
    ADMIN_GUARD_TRIES = 10,       /* wrong tokens that an address has … */
    ADMIN_GUARD_TRIES_MS = 60000, /* … in so long */
};

struct admin_guard_opts {
    const char *address; /* of --admin-listen */
    const char *token;   /* NULL: none is needed */
    int64_t session_ms;  /* 0: ADMIN_GUARD_SESSION_MS */
    int64_t tries_ms;    /* 0: ADMIN_GUARD_TRIES_MS */
};

struct admin_guard;

int admin_guard_new(struct admin_guard **out, const struct admin_guard_opts *opts, struct err *err)
    MUST_CHECK;
void admin_guard_free(struct admin_guard *guard); /* NULL is fine */

/* The first question; when the answer is false, the response says why. */
bool admin_guard_is_for_us(const struct admin_guard *guard, const struct http_request *request,
                           struct http_response *response);

/* The second one. */
enum admin_pass {
    ADMIN_PASS_GOOD,
    ADMIN_PASS_MISSING, /* also a cookie that is good no more */
    ADMIN_PASS_WRONG,
    ADMIN_PASS_TOO_MANY, /* wrong ones before: this one wasn't looked at */
};
enum admin_pass admin_guard_ask(struct admin_guard *guard, const struct http_request *request);

/* The response to one that isn't good. */
void admin_guard_refuse(enum admin_pass pass, struct http_response *response);

/* Take the token of the body, {"token":"…"}, for a cookie: 204, or what is wrong. */
void admin_guard_sign_in(struct admin_guard *guard, const struct http_request *request,
                         struct http_response *response);

/* End the session of the cookie that comes with it: 204. */
void admin_guard_sign_out(struct admin_guard *guard, const struct http_request *request,
                          struct http_response *response);

#endif
