/* SPDX-License-Identifier: MIT */
#include "http/frame.h"

#include "base/text.h"

#include <string.h>
#include <strings.h>

enum block { BLOCK_INCOMPLETE, BLOCK_MALFORMED, BLOCK_WHOLE };

static enum block find_block_end(const char *bytes, size_t len, size_t *out_end)
{
    for (size_t i = 0; i < len; i++) {
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

bool http_frame_is_ready(const char *bytes, size_t len, size_t max_body_bytes, size_t *out_needed)
{
    uint64_t body = 0;
    bool has_length = false;
    size_t end = 0;

    *out_needed = 0;
    switch (find_block_end(bytes, len, &end)) {
    case BLOCK_INCOMPLETE:
        return len >= HTTP_HEADER_BLOCK_MAX;
    case BLOCK_MALFORMED:
        return true;
    case BLOCK_WHOLE:
        break;
    }
    for (const char *line = bytes; line < bytes + end;) {
        size_t left = (size_t)(bytes + end - line);
        const char *newline = memchr(line, '\n', left);
        size_t line_len = newline ? (size_t)(newline - line) : left;
        const char *value;
        size_t value_len;

        /* Whoever expects a 100 sends no body before he has it. */
        if (header_value(line, line_len, "Expect", &value_len) ||
            header_value(line, line_len, "Transfer-Encoding", &value_len))
            return true;
        value = header_value(line, line_len, "Content-Length", &value_len);
        if (value && (has_length || !text_to_u64(value, value_len, max_body_bytes, &body)))
            return true;
        has_length = has_length || value;
        line += line_len + 1;
    }
    if (len - end >= body || len >= HTTP_READY_BYTES)
        return true;
    *out_needed = end + body < HTTP_READY_BYTES ? end + (size_t)body : HTTP_READY_BYTES;
    return false;
}
