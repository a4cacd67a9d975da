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

int crypto_sha256(const void *bytes, size_t len, unsigned char out[SHA256_BYTES], struct err *err)
    MUST_CHECK;

#endif
