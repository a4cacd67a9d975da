/* SPDX-License-Identifier: MIT */
#include "crypto/hmac.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPARES = 4 };

/*
 * The template has hashed the padded key already, and is only ever read: any number of threads may
 * duplicate it. That costs more than to hash a short message, so a duplicate is kept after its use for
 * whoever comes next, as far as there is a place.
 */
struct hmac_key {
    EVP_MAC_CTX *template;
    _Atomic(EVP_MAC_CTX *) spares[SPARES];
};

/* Ready for a message. NULL: OpenSSL has no memory. */
static EVP_MAC_CTX *take_context(struct hmac_key *key)
{
    for (size_t i = 0; i < SPARES; i++) {
        EVP_MAC_CTX *spare = atomic_exchange(&key->spares[i], NULL);

        if (spare && EVP_MAC_init(spare, NULL, 0, NULL)) /* with the same key */
            return spare;
        EVP_MAC_CTX_free(spare);
    }
    return EVP_MAC_CTX_dup(key->template);
}

static void put_back(struct hmac_key *key, EVP_MAC_CTX *ctx)
{
    for (size_t i = 0; i < SPARES; i++) {
        EVP_MAC_CTX *none = NULL;

        if (atomic_compare_exchange_strong(&key->spares[i], &none, ctx))
            return;
    }
    EVP_MAC_CTX_free(ctx);
}

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
    EVP_MAC_CTX_free(key->template); /* cleanses its copy of the key, as the others do */
    for (size_t i = 0; i < SPARES; i++)
        EVP_MAC_CTX_free(atomic_load(&key->spares[i]));
    free(key);
}

int hmac_sha256(struct hmac_key *key, const struct crypto_part *parts, size_t count,
                unsigned char out[HMAC_SHA256_BYTES], struct err *err)
{
    EVP_MAC_CTX *ctx = take_context(key);
    size_t len = 0;
    bool ok = ctx != NULL;

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_MAC_update(ctx, parts[i].bytes, parts[i].len);
    ok = ok && EVP_MAC_final(ctx, out, &len, HMAC_SHA256_BYTES) && len == HMAC_SHA256_BYTES;
    if (ok)
        put_back(key, ctx);
    else
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
