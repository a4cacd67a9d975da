/* SPDX-License-Identifier: MIT */
/*
 * text - UTF-8, and small questions about strings.
 *
 * Threads    any; nothing is kept.
 * Ownership  nothing is allocated.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD in UTF-8 */

/* Bytes of the well-formed UTF-8 character at text (1 to 4), or 0 when there is none. */
size_t text_utf8_size(const char *text, size_t len);

bool text_is_utf8(const char *text, size_t len);

/* Put a '?' in the place of each byte that isn't part of well-formed UTF-8. */
void text_make_utf8(char *text);

/* Writes the code point as UTF-8 (at most 4 bytes) and returns how many; surrogates become U+FFFD. */
size_t text_put_utf8(char *out, uint32_t code_point);

/* How many bytes of text make at most units UTF-16 code units, cut on a character boundary.
 * text must be UTF-8. */
size_t text_utf16_prefix(const char *text, size_t len, size_t units);

/* True when text is digits only and they make a number not above max; out untouched otherwise. */
bool text_to_u64(const char *text, size_t len, uint64_t max, uint64_t *out);

/* How many bytes at text could play tricks on a terminal: control characters (those of U+0080 to
 * U+009F, which some obey, too), what turns the direction of writing, and the line ends of Unicode's own. 0
 * when it is harmless. */
size_t text_trick_size(const char *text);

/* The code point of what text_trick_size found. */
unsigned text_trick_code(const char *trick, size_t size);

/* A '?' in the place of each of those; the second keeps line ends and tabs. */
void text_make_plain(char *text);
void text_make_plain_lines(char *text);

/* "4 KiB", "2.5 MiB", "936 MiB". */
enum { TEXT_BYTES_MAX = 32 };
void text_format_bytes(int64_t bytes, char out[TEXT_BYTES_MAX]);

bool text_starts_with(const char *text, const char *start);
bool text_ends_with(const char *text, const char *end);

/* The name in names (n of them) that a typing error may have turned into word, or NULL. */
const char *text_closest(const char *word, const char *const *names, size_t n);

#endif
