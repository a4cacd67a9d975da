/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "base/compiler.h"

#include <stdio.h>
#include <string.h>

static bool is_continuation(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

size_t text_utf8_size(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;

    if (len == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC2)
        return 0;
    if (s[0] < 0xE0)
        return len >= 2 && is_continuation(s[1]) ? 2 : 0;
    if (s[0] < 0xF0) {
        if (len < 3 || !is_continuation(s[1]) || !is_continuation(s[2]))
            return 0;
        if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F))
            return 0; /* too long a form, or a surrogate */
        return 3;
    }
    if (s[0] > 0xF4 || len < 4 || !is_continuation(s[1]) || !is_continuation(s[2]) ||
        !is_continuation(s[3]))
        return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return 4;
}

bool text_is_utf8(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len) {
        size_t size = text_utf8_size(text + at, len - at);

        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

void text_make_utf8(char *text)
{
    size_t len = strlen(text), at = 0;

    while (at < len) {
        size_t size = text_utf8_size(text + at, len - at);

        if (size == 0) {
            text[at] = '?';
            size = 1;
        }
        at += size;
    }
}

size_t text_put_utf8(char *out, uint32_t c)
{
    if (c >= 0xD800 && c <= 0xDFFF)
        c = 0xFFFD;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t text_utf16_prefix(const char *text, size_t len, size_t units)
{
    size_t at = 0;

    while (at < len) {
        size_t size = text_utf8_size(text + at, len - at);
        size_t cost = size == 4 ? 2 : 1; /* beyond the first plane: a pair of units */

        if (size == 0 || cost > units)
            break;
        units -= cost;
        at += size;
    }
    return at;
}

bool text_to_u64(const char *text, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(text[i] - '0');

        if (digit > 9 || digit > max || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool text_starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

bool text_ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Edit distance of two short words (Levenshtein); words above the limit are simply far apart. */
static unsigned distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    unsigned char row[LONGEST + 1];
    size_t a_len = strlen(a), b_len = strlen(b);

    if (a_len > LONGEST || b_len > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned char)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned char diagonal = row[0];

        row[0] = (unsigned char)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned char above = row[j];
            unsigned char best = (unsigned char)(diagonal + (a[i - 1] != b[j - 1]));

            if (above + 1 < best)
                best = (unsigned char)(above + 1);
            if (row[j - 1] + 1 < best)
                best = (unsigned char)(row[j - 1] + 1);
            row[j] = best;
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *text_closest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    unsigned best_distance = 3; /* two slips are a typing error, three are another word */

    for (size_t i = 0; i < n; i++) {
        unsigned d = distance(word, names[i]);

        if (d < best_distance && d < strlen(word)) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}

size_t text_trick_size(const char *text)
{
    unsigned char first = (unsigned char)text[0], second, third;

    if (first < ' ' || first == 0x7F)
        return 1;
    second = (unsigned char)text[1];
    if (first == 0xC2 && second >= 0x80 && second <= 0x9F)
        return 2;
    if (first != 0xE2 || second == '\0')
        return 0;
    third = (unsigned char)text[2];
    if ((second == 0x80 && third >= 0xA8 && third <= 0xAE) ||
        (second == 0x81 && third >= 0xA6 && third <= 0xA9))
        return 3;
    return 0;
}

unsigned text_trick_code(const char *trick, size_t size)
{
    unsigned code = (unsigned char)trick[0];

    if (size > 1)
        code &= size == 2 ? 0x1F : 0x0F;
    for (size_t i = 1; i < size; i++)
        code = code << 6 | ((unsigned char)trick[i] & 0x3F);
    return code;
}

static void make_plain(char *text, const char *kept)
{
    char *out = text;

    while (*text) {
        size_t size = strchr(kept, *text) ? 0 : text_trick_size(text);

        *out++ = size ? '?' : *text;
        text += size ? size : 1;
    }
    *out = '\0';
}

void text_make_plain(char *text)
{
    make_plain(text, "");
}

void text_make_plain_lines(char *text)
{
    make_plain(text, "\n\t");
}

void text_format_bytes(int64_t bytes, char out[TEXT_BYTES_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(out, TEXT_BYTES_MAX, "%.*f %s", unit == 0 || value >= 100 ? 0 : 1, value, units[unit]);
}
