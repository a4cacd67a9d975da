/* SPDX-License-Identifier: MIT */
#include "crypto/rsa.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>

enum { EXPONENT_BITS_MAX = 64 };

/*
 * The template is ready to verify. A use duplicates it and goes on from there, so that key and
 * template are only ever read, and any number of threads may use them; and nothing is looked up by
 * name (which takes locks of the whole process) but here, once.
 */
struct rsa_key {
    EVP_PKEY *pkey;
    EVP_PKEY_CTX *template;
    EVP_MD *sha256;
    size_t bytes; /* of the modulus */
};

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
    key->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    key->template = key->pkey ? EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL) : NULL;
    return key->sha256 && key->template && EVP_PKEY_verify_init(key->template) == 1 &&
           EVP_PKEY_CTX_set_rsa_padding(key->template, RSA_PKCS1_PADDING) == 1 &&
           EVP_PKEY_CTX_set_signature_md(key->template, key->sha256) == 1;
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
    EVP_MD_free(key->sha256);
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

int rsa_verify_rs256(const struct rsa_key *key, const void *message, size_t len,
                     const void *signature, size_t signature_len, bool *out, struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    EVP_PKEY_CTX *ctx;
    int rc = 0;

    if (signature_len != key->bytes) {
        *out = false;
        return 0;
    }
    ERR_set_mark();
    ctx = EVP_PKEY_CTX_dup(key->template);
    if (ctx && EVP_Digest(message, len, digest, &digest_len, key->sha256, NULL) == 1)
        *out = EVP_PKEY_verify(ctx, signature, signature_len, digest, digest_len) == 1;
    else
        rc = err_set(err, ERR_NOMEM, "cannot verify a signature: OpenSSL refused");
    ERR_pop_to_mark();
    EVP_PKEY_CTX_free(ctx);
    return rc;
}
