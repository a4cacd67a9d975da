/* SPDX-License-Identifier: MIT */
/* The WorkOS-Signature header; behind a NUL in the input stands the body. */
#include "workos/signature.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct signing_keys *keys;
    char own[SIGNATURE_HEADER_MAX], *header = malloc(size + 1);
    const char *body;
    struct err err;
    size_t body_len;
    struct signature_facts facts;

    if (!keys && signing_keys_new(&keys, "one,two", &err) < 0)
        abort();
    memcpy(header, data, size);
    header[size] = '\0';
    body_len = size - strlen(header);
    body = header + strlen(header);
    signature_verify(keys, header, body, body_len, 1768249067677, 180000, &facts);

    /* What we sign is right, whatever the body; and with one bit more it is not. */
    if (signature_make_header(keys, 1768249067677, body, body_len, own, &err) < 0)
        abort();
    assert(signature_verify(keys, own, body, body_len, 1768249067677, 0, &facts) == SIGNATURE_OK);
    own[strlen(own) - 1] ^= 1;
    assert(signature_verify(keys, own, body, body_len, 1768249067677, 0, &facts) != SIGNATURE_OK);
    free(header);
    return 0;
}
