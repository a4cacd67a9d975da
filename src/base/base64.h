/* SPDX-License-Identifier: MIT */
/*
 * base64 - base64url as tokens have it (RFC 4648 section 5, without padding), read strictly.
 *
 * Of every sequence of bytes there is exactly one text, and no other is taken: not the alphabet with
 * '+' and '/', no '=', no white space, no length that nothing has, no bits behind the last byte that
 * aren't zero. So two texts that differ are never the same token.
 *
 * Threads    any; nothing is kept.
 * Ownership  nothing is allocated.
 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* So many bytes come of a text of that length, when it is a good one. */
static inline size_t base64url_size(size_t text_len)
{
    return text_len / 4 * 3 + (text_len % 4 * 3) / 4;
}

/* Writes base64url_size(len) bytes to out, which may be where text is. False when the text isn't
 * base64url; what is in out then is no use. */
bool base64url_decode(const char *text, size_t len, void *out);

#endif
