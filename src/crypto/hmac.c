/* SPDX-License-Identifier: MIT */
#include "crypto/hmac.h"

#include "crypto/sha256.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 }; /* of SHA-256 */

/*
 * HMAC is hash(outer || hash(inner || message)) (RFC 2104): both digests have taken the padded key
 * already. A use copies them and goes on from there, so that they are only ever read, and any number of
 * threads may use them. OpenSSL's own HMAC would copy more, and be looked up and set up for each use.
 */
struct hmac_key {
    EVP_MD_CTX *inner, *outer;
};

static bool begin(EVP_MD_CTX **out, const unsigned char block[BLOCK_BYTES], unsigned char pad)
{
    const EVP_MD *method = sha256_method();
    unsigned char padded[BLOCK_BYTES];
    bool ok;

    *out = EVP_MD_CTX_new();
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        padded[i] = block[i] ^ pad;
    ok = method && *out && EVP_DigestInit_ex(*out, method, NULL) &&
         EVP_DigestUpdate(*out, padded, BLOCK_BYTES);
    crypto_wipe(padded, sizeof(padded));
    return ok;
}

int hmac_key_new(struct hmac_key **out, const void *secret, size_t len, struct err *err)
{
    struct hmac_key *key = calloc(1, sizeof(*key));
    unsigned char block[BLOCK_BYTES] = {0};
    int rc = 0;

    if (len > BLOCK_BYTES)
        rc = crypto_sha256(secret, len, block, err);
    else if (len > 0)
        memcpy(block, secret, len);
    if (rc == 0 && (!key || !begin(&key->inner, block, 0x36) || !begin(&key->outer, block, 0x5c)))
        rc = err_set(err, ERR_NOMEM, "cannot prepare an HMAC key: OpenSSL refused");
    crypto_wipe(block, sizeof(block));
    if (rc < 0)
        hmac_key_free(key);
    else
        *out = key;
    return rc;
}

void hmac_key_free(struct hmac_key *key)
{
    if (!key)
        return;
    EVP_MD_CTX_free(key->inner); /* cleanses what it has taken of the key */
    EVP_MD_CTX_free(key->outer);
    free(key);
}

int hmac_sha256(const struct hmac_key *key, const struct crypto_part *parts, size_t count,
                unsigned char out[HMAC_SHA256_BYTES], struct err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char digest[HMAC_SHA256_BYTES];
    bool ok = ctx && EVP_MD_CTX_copy_ex(ctx, key->inner);

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_DigestUpdate(ctx, parts[i].bytes, parts[i].len);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) && EVP_MD_CTX_copy_ex(ctx, key->outer) &&
         EVP_DigestUpdate(ctx, digest, sizeof(digest)) && EVP_DigestFinal_ex(ctx, out, NULL);
    EVP_MD_CTX_free(ctx); /* cleanses it, too */
    return ok ? 0 : err_set(err, ERR_NOMEM, "cannot compute an HMAC: OpenSSL refused");
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

int crypto_random(void *out, size_t len, struct err *err)
{
    if (len > INT_MAX || RAND_bytes(out, (int)len) != 1)
        return err_set(err, ERR_IO, "cannot get random bytes: OpenSSL refused");
    return 0;
}

void crypto_wipe(void *bytes, size_t len)
{
    OPENSSL_cleanse(bytes, len);
}

void crypto_hex(const void *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}
