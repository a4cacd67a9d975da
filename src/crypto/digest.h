/* SPDX-License-Identifier: MIT */
/*
 * digest - SHA-256 of bytes, where no secret is involved.
 *
 * Threads    any.
 * Ownership  nothing is kept.
 * Errors     ERR_NOMEM when OpenSSL has no memory.
 */
#ifndef CRYPTO_DIGEST_H
#define CRYPTO_DIGEST_H

#include "base/err.h"

#include <stddef.h>

enum { SHA256_BYTES = 32 };

/* One piece of a message; the pieces are taken one after the other. */
struct crypto_part {
    const void *bytes;
    size_t len;
};

int crypto_sha256(const void *bytes, size_t len, unsigned char out[SHA256_BYTES], struct err *err)
    MUST_CHECK;
int crypto_sha256_parts(const struct crypto_part *parts, size_t count,
                        unsigned char out[SHA256_BYTES], struct err *err) MUST_CHECK;

#endif
