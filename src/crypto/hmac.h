/* SPDX-License-Identifier: MIT */
/*
 * hmac - HMAC-SHA256 with keys that are prepared once, constant-time comparison, randomness.
 *
 * Threads    a key may be used by any number of threads at once.
 * Ownership  hmac_key_free wipes the key. The secret passed in is not kept.
 * Errors     ERR_NOMEM when OpenSSL has no memory.
 */
#ifndef CRYPTO_HMAC_H
#define CRYPTO_HMAC_H

#include "base/err.h"
#include "crypto/digest.h"

#include <stdbool.h>
#include <stddef.h>

enum { HMAC_SHA256_BYTES = 32, HMAC_SHA256_HEX = 64 };

struct hmac_key;

int hmac_key_new(struct hmac_key **out, const void *secret, size_t len, struct err *err) MUST_CHECK;
void hmac_key_free(struct hmac_key *key);

int hmac_sha256(struct hmac_key *key, const struct crypto_part *parts, size_t count,
                unsigned char out[HMAC_SHA256_BYTES], struct err *err) MUST_CHECK;

/* Takes as long whether the bytes are equal or not. */
bool crypto_equal(const void *a, const void *b, size_t len);

int crypto_random(void *out, size_t len, struct err *err) MUST_CHECK;

/* Overwrite a secret in a way that the compiler doesn't remove. */
void crypto_wipe(void *bytes, size_t len);

/* Lower-case hex with a '\0' behind it: out holds 2 * len + 1 bytes. */
void crypto_hex(const void *bytes, size_t len, char *out);

#endif
