/* SPDX-License-Identifier: MIT */
#include "http/frame.h"

#include "base/text.h"

#include <string.h>
#include <strings.h>

enum block { BLOCK_INCOMPLETE, BLOCK_MALFORMED, BLOCK_WHOLE };

static enum block find_block_end(const char *bytes, size_t len, size_t from, size_t *out_end)
{
    for (size_t i = from; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if ((c < ' ' && c != '\r' && c != '\n') || c == 0x7F)
            return BLOCK_MALFORMED;
        if (c != '\n' || i == 0)
            continue;
        if (bytes[i - 1] == '\n' || (i >= 3 && memcmp(bytes + i - 3, "\r\n\r\n", 4) == 0)) {
            *out_end = i + 1;
            return BLOCK_WHOLE;
        }
    }
    return BLOCK_INCOMPLETE;
}

/* The value of "name" when line is that header. */
static const char *header_value(const char *line, size_t len, const char *name, size_t *out_len)
{
    size_t name_len = strlen(name);
    const char *value = line + name_len + 1;
    const char *end = line + len;

    if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
        return NULL;
    while (value < end && *value == ' ')
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\r'))
        end--;
    *out_len = (size_t)(end - value);
    return value;
}

static void read_headers(struct http_frame *frame, const char *bytes, size_t max_body_bytes)
{
    const char *end = bytes + frame->header_len;
    bool has_length = false;

    for (const char *line = bytes; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t len = newline ? (size_t)(newline - line) : (size_t)(end - line);
        const char *value;
        size_t value_len;
        uint64_t number;

        if (len >= 2 && line[len - 1] == '\r' && line[len - 2] == ' ')
            frame->has_tails = true;
        if (header_value(line, len, "Expect", &value_len))
            frame->expects = true;
        if (header_value(line, len, "Transfer-Encoding", &value_len))
            frame->is_odd = true;
        value = header_value(line, len, "Content-Length", &value_len);
        if (value) {
            if (has_length || !text_to_u64(value, value_len, max_body_bytes, &number))
                frame->is_odd = true;
            else
                frame->body_len = (size_t)number;
            has_length = true;
        }
        line += len + 1;
    }
    if (frame->is_odd)
        frame->body_len = 0;
}

bool http_frame_is_ready(struct http_frame *frame, const char *bytes, size_t len,
                         size_t max_body_bytes)
{
    if (frame->header_len == 0 && !frame->is_odd) {
        /* Behind the limit nothing counts, however many bytes came at once. */
        size_t block_max = len < HTTP_HEADER_BLOCK_MAX ? len : HTTP_HEADER_BLOCK_MAX;

        switch (find_block_end(bytes, block_max, frame->seen, &frame->header_len)) {
        case BLOCK_INCOMPLETE:
            frame->seen = block_max;
            frame->is_odd = block_max == HTTP_HEADER_BLOCK_MAX;
            break;
        case BLOCK_MALFORMED:
            frame->is_odd = true;
            break;
        case BLOCK_WHOLE:
            read_headers(frame, bytes, max_body_bytes);
            break;
        }
    }
    if (frame->is_odd)
        return true;
    if (frame->header_len == 0)
        return false;
    return len >= http_frame_size(frame) || (frame->expects && !frame->continued);
}

/* Of the line that ends there. */
static void move_tail(char *line, char *end)
{
    char *colon = memchr(line, ':', (size_t)(end - line));
    char *value = colon ? colon + 1 : end, *tail = end;
    size_t count;

    while (tail > value && tail[-1] == ' ')
        tail--;
    count = (size_t)(end - tail);
    memmove(value + count, value, (size_t)(tail - value));
    memset(value, ' ', count);
}

void http_frame_move_tails(const struct http_frame *frame, char *bytes)
{
    char *end = bytes + frame->header_len, *line = bytes, *newline;
    bool is_header = false; /* not before the line with the method */

    if (!frame->has_tails)
        return;
    for (; (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1) {
        bool is_empty = newline - line < 2;

        if (is_header && !is_empty && newline[-1] == '\r')
            move_tail(line, newline - 1);
        is_header = is_header || !is_empty;
    }
}
