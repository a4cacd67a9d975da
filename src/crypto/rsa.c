/* SPDX-License-Identifier: MIT */
#include "crypto/rsa.h"

#include "base/compiler.h"
#include "crypto/digest.h"
#include "crypto/hmac.h"
#include "crypto/sha256.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { EXPONENT_BITS_MAX = 64, KNOWN_MAX = 2048 };

/*
 * The same token comes with each request of a user, and a hash costs a twentieth of what RSA does. So what
 * was found genuine is remembered, as the hash of its message's hash and its signature. Whether it is
 * genuine depends on nothing but these two and the key, which never changes; what is forged is never
 * remembered, and to be taken for something that is it would need the same SHA-256.
 */
struct known {
    pthread_mutex_t lock;
    struct digest {
        unsigned char bytes[SHA256_BYTES];
    } * digests; /* guarded by lock: KNOWN_MAX, NULL before the first one */
};

/*
 * The template is ready to verify. A use duplicates it and goes on from there, so that key and
 * template are only ever read, and any number of threads may use them; and nothing is looked up by
 * name (which takes locks of the whole process) but here, once.
 */
struct rsa_key {
    EVP_PKEY *pkey;
    EVP_PKEY_CTX *template;
    size_t bytes; /* of the modulus */
    struct known *known;
};

/* ---------------------------------------------------------------------------------- what is known */

static struct known *known_new(void)
{
    struct known *known = calloc(1, sizeof(*known));

    if (known)
        pthread_mutex_init(&known->lock, NULL);
    return known;
}

static void known_free(struct known *known)
{
    if (!known)
        return;
    pthread_mutex_destroy(&known->lock);
    free(known->digests);
    free(known);
}

/* Each digest has one place, which is zeros at first; its first bytes are as good as random. */
static size_t place_of(const unsigned char digest[SHA256_BYTES])
{
    return (size_t)(digest[0] | digest[1] << 8) % KNOWN_MAX;
}

static bool is_known(struct known *known, const unsigned char digest[SHA256_BYTES])
{
    bool found;

    pthread_mutex_lock(&known->lock);
    found = known->digests &&
            crypto_equal(known->digests[place_of(digest)].bytes, digest, SHA256_BYTES);
    pthread_mutex_unlock(&known->lock);
    return found;
}

/* In the place of another one; without memory it isn't, and will be verified again. */
static void remember(struct known *known, const unsigned char digest[SHA256_BYTES])
{
    pthread_mutex_lock(&known->lock);
    if (!known->digests)
        known->digests = calloc(KNOWN_MAX, sizeof(*known->digests));
    if (known->digests)
        memcpy(known->digests[place_of(digest)].bytes, digest, SHA256_BYTES);
    pthread_mutex_unlock(&known->lock);
}

/* ---------------------------------------------------------------------------------- keys */

static int check_numbers(const BIGNUM *n, const BIGNUM *e, struct err *err)
{
    int bits = BN_num_bits(n);

    if (bits < RSA_BITS_MIN)
        return err_set(err, ERR_INVALID,
                       "an RSA key of %d bits is too small; at least %d are taken", bits,
                       RSA_BITS_MIN);
    if (bits > RSA_BITS_MAX)
        return err_set(err, ERR_INVALID, "an RSA key of %d bits is too large; at most %d are taken",
                       bits, RSA_BITS_MAX);
    if (!BN_is_odd(n))
        return err_set(err, ERR_INVALID, "an RSA key's modulus can't be even");
    if (!BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > EXPONENT_BITS_MAX)
        return err_set(err, ERR_INVALID, "an RSA key's exponent is an odd number from 3 to %d bits",
                       EXPONENT_BITS_MAX);
    return 0;
}

static EVP_PKEY *make_pkey(const BIGNUM *n, const BIGNUM *e)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
        params = OSSL_PARAM_BLD_to_param(build);
    if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1)
        (void)EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static bool prepare(struct rsa_key *key)
{
    const EVP_MD *method = sha256_method();

    key->known = known_new();
    key->template = key->pkey ? EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL) : NULL;
    return method && key->known && key->template && EVP_PKEY_verify_init(key->template) == 1 &&
           EVP_PKEY_CTX_set_rsa_padding(key->template, RSA_PKCS1_PADDING) == 1 &&
           EVP_PKEY_CTX_set_signature_md(key->template, method) == 1;
}

int rsa_key_new(struct rsa_key **out, const void *n, size_t n_len, const void *e, size_t e_len,
                struct err *err)
{
    struct rsa_key *key = calloc(1, sizeof(*key));
    BIGNUM *modulus = NULL, *exponent = NULL;
    int rc = 0;

    ERR_set_mark();
    /* A number this long is none that is taken; it shall not cost its own size, either. */
    if (n_len > 2 * RSA_BYTES_MAX || e_len > RSA_BYTES_MAX) {
        rc = err_set(err, ERR_INVALID, "an RSA key is too large; at most %d bits are taken",
                     RSA_BITS_MAX);
        goto out;
    }
    modulus = BN_bin2bn(n, (int)n_len, NULL);
    exponent = BN_bin2bn(e, (int)e_len, NULL);
    if (modulus && exponent)
        rc = check_numbers(modulus, exponent, err);
    if (rc < 0)
        goto out;
    if (key && modulus && exponent)
        key->pkey = make_pkey(modulus, exponent);
    if (!key || !prepare(key)) {
        rc = err_set(err, ERR_NOMEM, "cannot prepare an RSA key: OpenSSL refused");
        goto out;
    }
    key->bytes = (size_t)BN_num_bytes(modulus);
    *out = key;
    key = NULL;
out:
    ERR_pop_to_mark();
    BN_free(modulus);
    BN_free(exponent);
    rsa_key_free(key);
    return rc;
}

void rsa_key_free(struct rsa_key *key)
{
    if (!key)
        return;
    EVP_PKEY_CTX_free(key->template);
    EVP_PKEY_free(key->pkey);
    known_free(key->known);
    free(key);
}

bool rsa_key_equal(const struct rsa_key *a, const struct rsa_key *b)
{
    bool same;

    ERR_set_mark();
    same = EVP_PKEY_eq(a->pkey, b->pkey) == 1;
    ERR_pop_to_mark();
    return same;
}

/* ---------------------------------------------------------------------------------- signatures */

static int verify(const struct rsa_key *key, const unsigned char digest[SHA256_BYTES],
                  const void *signature, bool *out, struct err *err)
{
    EVP_PKEY_CTX *ctx;
    int rc = 0;

    ERR_set_mark();
    ctx = EVP_PKEY_CTX_dup(key->template);
    if (ctx)
        *out = EVP_PKEY_verify(ctx, signature, key->bytes, digest, SHA256_BYTES) == 1;
    else
        rc = err_set(err, ERR_NOMEM, "cannot verify a signature: OpenSSL refused");
    ERR_pop_to_mark();
    EVP_PKEY_CTX_free(ctx);
    return rc;
}

int rsa_verify_rs256(const struct rsa_key *key, const void *message, size_t len,
                     const void *signature, size_t signature_len, bool *out, struct err *err)
{
    unsigned char digest[SHA256_BYTES], both[SHA256_BYTES];
    const struct crypto_part parts[] = {{digest, sizeof(digest)}, {signature, signature_len}};
    int rc;

    if (signature_len != key->bytes) {
        *out = false;
        return 0;
    }
    rc = crypto_sha256(message, len, digest, err);
    if (rc == 0)
        rc = crypto_sha256_parts(parts, ARRAY_LEN(parts), both, err);
    if (rc < 0)
        return rc;
    if (is_known(key->known, both)) {
        *out = true;
        return 0;
    }
    rc = verify(key, digest, signature, out, err);
    if (rc == 0 && *out)
        remember(key->known, both);
    return rc;
}
