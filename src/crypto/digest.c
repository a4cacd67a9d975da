/* SPDX-License-Identifier: MIT */
#include "crypto/digest.h"

#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Of two threads that come first at once, the method of one stays. */
const EVP_MD *sha256_method(void)
{
    static _Atomic(EVP_MD *) method;
    EVP_MD *known = atomic_load_explicit(&method, memory_order_acquire), *fresh;

    if (known)
        return known;
    fresh = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (atomic_compare_exchange_strong(&method, &known, fresh))
        return fresh;
    EVP_MD_free(fresh);
    return known;
}

int crypto_sha256_parts(const struct crypto_part *parts, size_t count,
                        unsigned char out[SHA256_BYTES], struct err *err)
{
    const EVP_MD *method = sha256_method();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = method && ctx && EVP_DigestInit_ex(ctx, method, NULL);

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_DigestUpdate(ctx, parts[i].bytes, parts[i].len);
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL);
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : err_set(err, ERR_NOMEM, "cannot compute a SHA-256: OpenSSL refused");
}

int crypto_sha256(const void *bytes, size_t len, unsigned char out[SHA256_BYTES], struct err *err)
{
    return crypto_sha256_parts(&(struct crypto_part){bytes, len}, 1, out, err);
}
