/* SPDX-License-Identifier: MIT */
/*
 * rsa - RS256 signatures (RSASSA-PKCS1-v1_5 with SHA-256), verified with public keys from elsewhere.
 *
 * A key is made once of a JWK's "n" and "e". Signing is for those who have the private key, and no
 * other algorithm is known here: what a token says of its algorithm can't change what is done with a
 * key.
 *
 * Threads    a key may be used by any number of threads at once.
 * Ownership  the bytes passed in are not kept.
 * Errors     ERR_INVALID: no such key is taken, and why. ERR_NOMEM when OpenSSL has no memory. Nothing
 *            stays in the thread's error queue of OpenSSL's.
 * Memory     64 KiB for a key that has verified something, for what it has found genuine.
 * Limits     RSA_BITS_MIN to RSA_BITS_MAX; an odd exponent from 3 to 64 bits.
 */
#ifndef CRYPTO_RSA_H
#define CRYPTO_RSA_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 16384,
    RSA_BYTES_MAX = RSA_BITS_MAX / 8, /* of a modulus, and of a signature */
};

struct rsa_key;

/* n and e as big-endian bytes; zeros in front don't count. */
int rsa_key_new(struct rsa_key **out, const void *n, size_t n_len, const void *e, size_t e_len,
                struct err *err) MUST_CHECK;
void rsa_key_free(struct rsa_key *key); /* NULL is fine */

bool rsa_key_equal(const struct rsa_key *a, const struct rsa_key *b);

/* *out: whether the signature of the message is the key's. The key remembers what it has found genuine. */
int rsa_verify_rs256(const struct rsa_key *key, const void *message, size_t len,
                     const void *signature, size_t signature_len, bool *out, struct err *err)
    MUST_CHECK;

#endif
