/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool grow(struct buf *b, size_t more)
{
    size_t need, cap;
    char *data;

    if (b->failed)
        return false;
    if (more > b->max || b->len > b->max - more)
        goto fail;
    need = b->len + more + 1;
    if (need <= b->cap)
        return true;
    cap = b->cap ? b->cap * 2 : 256;
    if (cap < need)
        cap = need;
    if (cap > b->max + 1)
        cap = b->max + 1;
    data = realloc(b->data, cap);
    if (!data)
        goto fail;
    if (!b->data)
        data[0] = '\0';
    b->data = data;
    b->cap = cap;
    return true;
fail:
    b->failed = true;
    return false;
}

void buf_put(struct buf *b, const void *bytes, size_t len)
{
    if (!grow(b, len))
        return;
    if (len > 0)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

/* Straight into the room that is there; written once more only when that was too little. */
void buf_put_u64(struct buf *b, uint64_t number)
{
    char digits[20], *at = digits + sizeof(digits);

    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    buf_put(b, at, (size_t)(digits + sizeof(digits) - at));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    size_t room;
    int n;

    if (!grow(b, 0))
        return;
    room = b->cap - b->len;
    va_start(args, fmt);
    n = vsnprintf(b->data + b->len, room, fmt, args);
    va_end(args);
    if (n < 0 || !grow(b, (size_t)n)) {
        b->data[b->len] = '\0';
        return;
    }
    if ((size_t)n >= room) {
        va_start(args, fmt);
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, args);
        va_end(args);
    }
    b->len += (size_t)n;
}

static void put_escaped(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        buf_put(b, "\\\"", 2);
        break;
    case '\\':
        buf_put(b, "\\\\", 2);
        break;
    case '\b':
        buf_put(b, "\\b", 2);
        break;
    case '\t':
        buf_put(b, "\\t", 2);
        break;
    case '\n':
        buf_put(b, "\\n", 2);
        break;
    case '\f':
        buf_put(b, "\\f", 2);
        break;
    case '\r':
        buf_put(b, "\\r", 2);
        break;
    default:
        buf_printf(b, "\\u%04x", c);
    }
}

void buf_put_json_string(struct buf *b, const char *text, size_t len)
{
    size_t at = 0, plain = 0; /* text[plain..at) waits to be copied as it is */

    buf_putc(b, '"');
    while (at < len) {
        unsigned char c = (unsigned char)text[at];
        size_t size = 1;

        if (c >= 0x80)
            size = text_utf8_size(text + at, len - at);
        if (size > 0 && c >= 0x20 && c != '"' && c != '\\') {
            at += size;
            continue;
        }
        buf_put(b, text + plain, at - plain);
        if (size == 0)
            buf_puts(b, TEXT_REPLACEMENT);
        else
            put_escaped(b, c);
        plain = ++at;
    }
    buf_put(b, text + plain, at - plain);
    buf_putc(b, '"');
}

void buf_put_plain_json(struct buf *b, const char *json)
{
    const char *plain = json; /* from here on it waits to be copied as it is */

    while (*json) {
        size_t size = text_trick_size(json);

        if (size == 0) {
            json++;
            continue;
        }
        buf_put(b, plain, (size_t)(json - plain));
        if ((unsigned char)*json < ' ')
            buf_putc(b, ' ');
        else
            buf_printf(b, "\\u%04x", text_trick_code(json, size));
        json += size;
        plain = json;
    }
    buf_put(b, plain, (size_t)(json - plain));
}

char *buf_reserve(struct buf *b, size_t len)
{
    return grow(b, len) ? b->data + b->len : NULL;
}

void buf_added(struct buf *b, size_t len)
{
    b->len += len;
    b->data[b->len] = '\0';
}

const char *buf_text(const struct buf *b)
{
    return b->data ? b->data : "";
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

char *buf_take(struct buf *b, size_t *out_len)
{
    char *data = b->data;

    if (out_len)
        *out_len = b->len;
    *b = BUF_INIT(b->max);
    return data;
}

void buf_release(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->max);
}
