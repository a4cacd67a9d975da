/* SPDX-License-Identifier: MIT */
/*
 * jwt - tokens and key sets made for a test.
 */
#ifndef TESTS_AUTH_JWT_H
#define TESTS_AUTH_JWT_H

#include "base/buf.h"
#include "unit/crypto/rsa_pair.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { JWT_MAX = 65536 };

static inline void jwt_put_base64(struct buf *out, const void *bytes, size_t len)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *p = bytes;
    uint32_t bits = 0;
    int held = 0;

    for (size_t i = 0; i < len; i++) {
        bits = (bits << 8 | p[i]) & 0xFFFF;
        for (held += 8; held >= 6; held -= 6)
            buf_putc(out, alphabet[bits >> (held - 6) & 63]);
    }
    if (held > 0)
        buf_putc(out, alphabet[bits << (6 - held) & 63]);
}

/* "header.claims" in base64url. */
static inline void jwt_put_unsigned(struct buf *out, const char *header, const void *claims,
                                    size_t claims_len)
{
    jwt_put_base64(out, header, strlen(header));
    buf_putc(out, '.');
    jwt_put_base64(out, claims, claims_len);
}

/* ".signature" of all that is in out. */
static inline void jwt_put_signature(struct buf *out, const struct rsa_pair *pair)
{
    unsigned char signature[RSA_PAIR_BYTES_MAX];
    size_t len = rsa_pair_sign(pair, "SHA256", RSA_PKCS1_PADDING, out->data, out->len, signature);

    buf_putc(out, '.');
    jwt_put_base64(out, signature, len);
}

static inline void jwt_put(struct buf *out, const struct rsa_pair *pair, const char *header,
                           const char *claims)
{
    jwt_put_unsigned(out, header, claims, strlen(claims));
    jwt_put_signature(out, pair);
}

/* A JWK of the public key; more: members in front, such as "\"use\":\"sig\",". */
static inline void jwt_put_key(struct buf *out, const struct rsa_pair *pair, const char *key_id,
                               const char *more)
{
    buf_printf(out, "{\"kty\":\"RSA\",%s\"kid\":\"%s\",\"n\":\"", more, key_id);
    jwt_put_base64(out, pair->n, pair->n_len);
    buf_puts(out, "\",\"e\":\"");
    jwt_put_base64(out, pair->e, pair->e_len);
    buf_puts(out, "\"}");
}

/* As WorkOS lists them. */
#define JWT_USUAL "\"alg\":\"RS256\",\"use\":\"sig\",\"x5c\":[\"MIIC\"],\"x5t#S256\":\"x\","

/* A JWKS with that key alone. */
static inline void jwt_put_set(struct buf *out, const struct rsa_pair *pair, const char *key_id)
{
    buf_puts(out, "{\"keys\":[");
    jwt_put_key(out, pair, key_id, JWT_USUAL);
    buf_puts(out, "]}");
}

#endif
