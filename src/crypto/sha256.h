/* SPDX-License-Identifier: MIT */
/*
 * sha256 - OpenSSL's SHA-256, looked up once: by name it is found under locks of the whole process, which
 * costs more than to hash what we hash. For this room only.
 *
 * Threads    any.
 */
#ifndef CRYPTO_SHA256_H
#define CRYPTO_SHA256_H

#include <openssl/types.h>

/* The process's, for as long as it runs. NULL: OpenSSL has no memory. */
const EVP_MD *sha256_method(void);

#endif
