/* SPDX-License-Identifier: MIT */
#include "crypto/hmac.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>

/*
 * The template has hashed the padded key already. A use duplicates it and goes on from there, so
 * that the template is only ever read, and any number of threads may use it.
 */
struct hmac_key {
    EVP_MAC_CTX *template;
};

int hmac_key_new(struct hmac_key **out, const void *secret, size_t len, struct err *err)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    struct hmac_key *key = NULL;
    EVP_MAC *mac = NULL;
    int rc;

    /* OpenSSL takes a NULL key for "keep the one that is set": an empty secret needs an address. */
    if (len == 0)
        secret = "";
    key = calloc(1, sizeof(*key));
    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (key && mac)
        key->template = EVP_MAC_CTX_new(mac);
    if (!key || !key->template || !EVP_MAC_init(key->template, secret, len, params)) {
        rc = err_set(err, ERR_NOMEM, "cannot prepare an HMAC key: OpenSSL refused");
        goto out;
    }
    *out = key;
    key = NULL;
    rc = 0;
out:
    EVP_MAC_free(mac);
    hmac_key_free(key);
    return rc;
}

void hmac_key_free(struct hmac_key *key)
{
    if (!key)
        return;
    EVP_MAC_CTX_free(key->template); /* cleanses its copy of the key */
    free(key);
}

int hmac_sha256(const struct hmac_key *key, const struct hmac_part *parts, size_t count,
                unsigned char out[HMAC_SHA256_BYTES], struct err *err)
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(key->template);
    size_t len = 0;
    bool ok = ctx != NULL;

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_MAC_update(ctx, parts[i].bytes, parts[i].len);
    ok = ok && EVP_MAC_final(ctx, out, &len, HMAC_SHA256_BYTES) && len == HMAC_SHA256_BYTES;
    EVP_MAC_CTX_free(ctx);
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
