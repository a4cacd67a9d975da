/* SPDX-License-Identifier: MIT */
/*
 * rsa_pair - RSA keys made for a test, and what is signed with them.
 */
#ifndef TESTS_CRYPTO_RSA_PAIR_H
#define TESTS_CRYPTO_RSA_PAIR_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <stddef.h>
#include <stdlib.h>

enum { RSA_PAIR_BYTES_MAX = 2100 };

struct rsa_pair {
    EVP_PKEY *key;
    unsigned char n[RSA_PAIR_BYTES_MAX], e[16];
    size_t n_len, e_len;
};

/* A test that can't make its key has nothing to say: it ends at once. */
static inline struct rsa_pair rsa_pair_new(unsigned bits)
{
    struct rsa_pair pair = {.key = EVP_RSA_gen(bits)};
    BIGNUM *n = NULL, *e = NULL;
    int got = EVP_PKEY_get_bn_param(pair.key, OSSL_PKEY_PARAM_RSA_N, &n) &&
              EVP_PKEY_get_bn_param(pair.key, OSSL_PKEY_PARAM_RSA_E, &e);

    if (!got)
        abort();
    pair.n_len = (size_t)BN_bn2bin(n, pair.n);
    pair.e_len = (size_t)BN_bn2bin(e, pair.e);
    BN_free(n);
    BN_free(e);
    return pair;
}

static inline void rsa_pair_free(struct rsa_pair *pair)
{
    EVP_PKEY_free(pair->key);
}

/* padding: RSA_PKCS1_PADDING for RS256. Returns the signature's length. */
static inline size_t rsa_pair_sign(const struct rsa_pair *pair, const char *digest, int padding,
                                   const void *message, size_t len,
                                   unsigned char out[RSA_PAIR_BYTES_MAX])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    size_t out_len = RSA_PAIR_BYTES_MAX;

    if (EVP_DigestSignInit_ex(ctx, &pkey_ctx, digest, NULL, NULL, pair->key, NULL) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, padding) != 1 ||
        EVP_DigestSign(ctx, out, &out_len, message, len) != 1)
        abort();
    EVP_MD_CTX_free(ctx);
    return out_len;
}

#endif
