/* SPDX-License-Identifier: MIT */
#include "crypto/digest.h"

#include <openssl/evp.h>

int crypto_sha256(const void *bytes, size_t len, unsigned char out[SHA256_BYTES], struct err *err)
{
    if (!EVP_Digest(bytes, len, out, NULL, EVP_sha256(), NULL))
        return err_set(err, ERR_NOMEM, "cannot compute a SHA-256: OpenSSL refused");
    return 0;
}
