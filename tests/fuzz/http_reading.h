/* SPDX-License-Identifier: MIT */
/*
 * http_reading - a header block read as RFC 9112 has it, leaving out all that anybody could read in two
 * ways: for fuzzers that want to know what the code under test should have seen.
 */
#ifndef TESTS_FUZZ_HTTP_READING_H
#define TESTS_FUZZ_HTTP_READING_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { READING_HEADERS_MAX = 64 };

struct piece {
    const char *at;
    size_t len;
};

struct reading {
    struct piece words[3]; /* method, target, version */
    struct piece names[READING_HEADERS_MAX], values[READING_HEADERS_MAX];
    size_t header_count;
};

/* Cut off what stands before the separator, which is cut off too. */
static inline bool cut(struct piece *rest, const char *separator, struct piece *out)
{
    const char *at = memmem(rest->at, rest->len, separator, strlen(separator));

    if (!at)
        return false;
    *out = (struct piece){rest->at, (size_t)(at - rest->at)};
    rest->len -= out->len + strlen(separator);
    rest->at = at + strlen(separator);
    return true;
}

static inline bool is_made_of(struct piece piece, bool (*fits)(unsigned char))
{
    for (size_t i = 0; i < piece.len; i++)
        if (!fits((unsigned char)piece.at[i]))
            return false;
    return piece.len > 0;
}

static inline bool fits_token(unsigned char c)
{
    return c > ' ' && c < 127 && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static inline bool fits_word(unsigned char c)
{
    return c > ' ' && c < 127;
}

static inline bool fits_number(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static inline bool has_line_end(struct piece piece)
{
    return memchr(piece.at, '\r', piece.len) || memchr(piece.at, '\n', piece.len);
}

/* RFC 9112's grammar, without the parts of it that anybody could read in two ways. */
static inline bool read_strictly(struct piece block, struct reading *out)
{
    struct piece line;

    *out = (struct reading){0};
    if (block.len >= 2 && memcmp(block.at, "\r\n", 2) == 0)
        block = (struct piece){block.at + 2, block.len - 2};
    if (!cut(&block, "\r\n", &line) || !cut(&line, " ", &out->words[0]) ||
        !cut(&line, " ", &out->words[1]))
        return false;
    out->words[2] = line;
    for (size_t i = 0; i < ARRAY_LEN(out->words); i++)
        if (!is_made_of(out->words[i], fits_word))
            return false;
    while (cut(&block, "\r\n", &line) && line.len > 0) {
        size_t i = out->header_count++;

        if (i == READING_HEADERS_MAX || has_line_end(line) || !cut(&line, ":", &out->names[i]) ||
            !is_made_of(out->names[i], fits_token))
            return false;
        while (line.len > 0 && *line.at == ' ')
            line = (struct piece){line.at + 1, line.len - 1};
        while (line.len > 0 && line.at[line.len - 1] == ' ')
            line.len--;
        out->values[i] = line;
    }
    return line.len == 0 && block.len == 0;
}

static inline bool is_text(struct piece piece, const char *text)
{
    return strlen(text) == piece.len && memcmp(piece.at, text, piece.len) == 0;
}

static inline const struct piece *header(const struct reading *reading, const char *name,
                                         size_t *out_count)
{
    const struct piece *first = NULL;

    *out_count = 0;
    for (size_t i = 0; i < reading->header_count; i++) {
        if (reading->names[i].len != strlen(name) ||
            strncasecmp(reading->names[i].at, name, strlen(name)) != 0)
            continue;
        if (!first)
            first = &reading->values[i];
        ++*out_count;
    }
    return first;
}

/* A number of digits that is no more than max, or -1. */
static inline long length_of(struct piece digits, long max)
{
    long number = 0;

    if (!is_made_of(digits, fits_number))
        return -1;
    for (size_t i = 0; i < digits.len; i++) {
        number = number * 10 + (digits.at[i] - '0');
        if (number > max)
            return -1;
    }
    return number;
}

#endif
