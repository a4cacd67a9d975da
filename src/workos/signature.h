/* SPDX-License-Identifier: MIT */
/*
 * signature - the WorkOS-Signature of a request, and our own under an action response.
 *
 * The header is "t=<ms since 1970>, v1=<hex>"; signed is "<t as it was sent>.<raw body>" with
 * HMAC-SHA256 and the whole secret as the key (WORKOS.md section 1; workos/workos-node:
 * src/common/crypto/signature-provider.ts). A t below 10^11 is in seconds: WorkOS's own emulator
 * sends that. Order and spaces don't matter, other parts are ignored, t or v1 twice is malformed.
 *
 * The signature is judged before the time, so that a wrong clock is never reported as a forgery.
 *
 * Threads    keys may be used by any number of threads.
 * Ownership  the secrets' text isn't kept.
 */
#ifndef WORKOS_SIGNATURE_H
#define WORKOS_SIGNATURE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum {
    SIGNATURE_WEBHOOK_TOLERANCE_MS = 180000,
    SIGNATURE_ACTION_TOLERANCE_MS = 30000,
    SIGNATURE_SECRETS_MAX = 8,
    SIGNATURE_HEADER_MAX = 128,
};

enum signature_status {
    SIGNATURE_OK,
    SIGNATURE_MISSING,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISMATCH,
    SIGNATURE_STALE, /* genuine, but from too long ago or from the future */
    SIGNATURE_BROKEN, /* could not be computed: no memory */
};

struct signing_keys;

/* secrets: one or more, separated by commas; spaces around them don't count. ERR_INVALID when there
 * is none, or more than SIGNATURE_SECRETS_MAX. */
int signing_keys_new(struct signing_keys **out, const char *secrets, struct err *err) MUST_CHECK;
void signing_keys_free(struct signing_keys *keys); /* NULL is fine */

/* header may be NULL. out_skew_ms is filled for OK and STALE: how far the timestamp is behind now
 * (negative: ahead). */
enum signature_status signature_verify(const struct signing_keys *keys, const char *header,
                                       const char *body, size_t body_len, int64_t now_ms,
                                       int64_t tolerance_ms, int64_t *out_skew_ms);

/* The hex signature of "<timestamp_ms>.<body>" under the first secret. */
int signature_make(const struct signing_keys *keys, int64_t timestamp_ms, const char *body,
                   size_t body_len, char out_hex[65], struct err *err) MUST_CHECK;

/* The whole header's value, as WorkOS sends it. */
int signature_make_header(const struct signing_keys *keys, int64_t timestamp_ms, const char *body,
                          size_t body_len, char out[SIGNATURE_HEADER_MAX],
                          struct err *err) MUST_CHECK;

#endif
