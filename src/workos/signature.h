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
    SIGNATURE_STALE,  /* genuine, but from too long ago or from the future */
    SIGNATURE_BROKEN, /* could not be computed: no memory */
    SIGNATURE_STATUSES
};

struct signing_keys;

/* secrets: one or more, separated by commas; spaces around them don't count. ERR_INVALID when there
 * is none, or more than SIGNATURE_SECRETS_MAX. */
int signing_keys_new(struct signing_keys **out, const char *secrets, struct err *err) MUST_CHECK;
void signing_keys_free(struct signing_keys *keys); /* NULL is fine */

/* What a genuine signature (OK, STALE) told besides. */
struct signature_facts {
    int64_t skew_ms; /* how far the timestamp is behind now; negative: ahead */
    size_t key;      /* which of the secrets fitted: an answer is signed with the same one */
};

/* header may be NULL. */
enum signature_status signature_verify(const struct signing_keys *keys, const char *header,
                                       const char *body, size_t body_len, int64_t now_ms,
                                       int64_t tolerance_ms, struct signature_facts *out);

/* Log a refusal, at most once a second for each reason: strangers can cause them. name is the
 * endpoint's. */
void signature_log_refusal(const char *name, enum signature_status status,
                           const struct signature_facts *facts);

/* The hex signature of "<timestamp_ms>.<body>" under one of the secrets. */
int signature_make(const struct signing_keys *keys, size_t key, int64_t timestamp_ms,
                   const char *body, size_t body_len, char out_hex[65], struct err *err) MUST_CHECK;

/* The whole header's value under the first secret, as WorkOS sends it. */
int signature_make_header(const struct signing_keys *keys, int64_t timestamp_ms, const char *body,
                          size_t body_len, char out[SIGNATURE_HEADER_MAX], struct err *err)
    MUST_CHECK;

#endif
