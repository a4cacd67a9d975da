/* SPDX-License-Identifier: MIT */
/*
 * buf - a byte buffer that grows, up to the ceiling that it was born with.
 *
 * While it has not failed, data[len] is '\0', so that data can be read as a string. A put that
 * would pass the ceiling, or finds no memory, puts nothing and marks the buffer as failed; later
 * puts do nothing. So a text is written with many puts and one buf_ok() at the end.
 *
 * Threads    any: a buffer belongs to one thread at a time.
 * Ownership  the buffer owns data until buf_take. buf_release may be called again and again.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL until the first put */
    size_t len;
    size_t cap; /* bytes allocated, the '\0' included */
    size_t max; /* len never passes it */
    bool failed;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

void buf_put(struct buf *b, const void *bytes, size_t len);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_put_u64(struct buf *b, uint64_t number); /* in decimal */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * A JSON string, quotes included. Only '"', '\' and bytes below 0x20 are escaped (\b \t \n \f \r,
 * else \u00xx in lower case): JSON.parse followed by JSON.stringify gives the same bytes again,
 * which the signature of an action response depends on. Bytes that are not UTF-8 become U+FFFD.
 */
void buf_put_json_string(struct buf *b, const char *text, size_t len);

/*
 * A JSON text for somebody's terminal: the same values on one line. What plays tricks there
 * (text_trick_size) becomes a \u escape in a string, and a blank between the tokens, where JSON
 * has control characters alone: '\n', '\r', '\t'.
 */
void buf_put_plain_json(struct buf *b, const char *json);

/* Room for len more bytes at the returned address; buf_added(b, n) says how many were used. */
char *buf_reserve(struct buf *b, size_t len) MUST_CHECK;
void buf_added(struct buf *b, size_t len);

/* data, never NULL: "" for an empty buffer. */
const char *buf_text(const struct buf *b);

static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

/* Forget the contents, keep the memory. */
void buf_reset(struct buf *b);

/* The bytes are yours (free them); the buffer is empty again. NULL when nothing was ever put. */
char *buf_take(struct buf *b, size_t *out_len);

void buf_release(struct buf *b);

#endif
