/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <stdint.h>

/* What the character stands for, or -1. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(const char *text, size_t len, void *out)
{
    unsigned char *to = out;
    uint32_t bits = 0;
    int held = 0; /* so many of the low bits belong to no byte yet */

    if (len % 4 == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = value_of(text[i]);

        if (value < 0)
            return false;
        bits = (bits << 6 | (uint32_t)value) & 0xFFFF;
        held += 6;
        if (held >= 8) {
            held -= 8;
            *to++ = (unsigned char)(bits >> held);
        }
    }
    return (bits & ((1U << held) - 1)) == 0;
}
