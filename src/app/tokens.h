/* SPDX-License-Identifier: MIT */
/*
 * tokens - the options of access tokens (auth/auth.h), as the configuration has them or lets them be.
 *
 * They are on when it is known where the keys are: by WORKOS_CLIENT_ID or --jwks-url. What isn't given
 * is what WorkOS itself would say: the keys of the client id at the API's own address, and the issuers
 * that its environments have, of the API's own address and of https://api.workos.com:
 *
 *    https://api.workos.com    https://api.workos.com/    https://api.workos.com/user_management/<id>
 *
 * Threads    any.
 * Ownership  opts borrows from the configuration and from the struct tokens around it.
 * Errors     ERR_INVALID: a host or client id without end.
 */
#ifndef APP_TOKENS_H
#define APP_TOKENS_H

#include "app/config.h"
#include "auth/auth.h"
#include "base/buf.h"

struct tokens {
    struct auth_opts opts;
    struct buf jwks_url, issuers; /* what wasn't given */
};

bool tokens_are_on(const struct config *config);

/* When they are on. */
int tokens_fill(struct tokens *out, const struct config *config, struct err *err) MUST_CHECK;
void tokens_release(struct tokens *tokens); /* fine on {0}, too */

#endif
