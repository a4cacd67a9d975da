/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <stdint.h>

/* What the character stands for, and one more; 0: nothing. */
static const unsigned char values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64,
};

static unsigned value_of(char c)
{
    return values[(unsigned char)c];
}

/* Four characters are three bytes. */
static bool decode_four(const char *text, unsigned char *to)
{
    unsigned a = value_of(text[0]), b = value_of(text[1]);
    unsigned c = value_of(text[2]), d = value_of(text[3]);
    uint32_t bits;

    if (!a || !b || !c || !d)
        return false;
    bits = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
    to[0] = (unsigned char)(bits >> 16);
    to[1] = (unsigned char)(bits >> 8);
    to[2] = (unsigned char)bits;
    return true;
}

/* What is left: nothing, or two or three characters, whose last bits belong to no byte and are zeros. */
static bool decode_rest(const char *text, size_t len, unsigned char *to)
{
    unsigned a, b, c;

    if (len == 0)
        return true;
    a = value_of(text[0]);
    b = value_of(text[1]);
    c = len == 3 ? value_of(text[2]) : 1;
    if (!a || !b || !c)
        return false;
    to[0] = (unsigned char)((a - 1) << 2 | (b - 1) >> 4);
    if (len == 2)
        return ((b - 1) & 15) == 0;
    to[1] = (unsigned char)((b - 1) << 4 | (c - 1) >> 2);
    return ((c - 1) & 3) == 0;
}

bool base64url_decode(const char *text, size_t len, void *out)
{
    unsigned char *to = out;

    if (len % 4 == 1)
        return false;
    for (; len >= 4; text += 4, to += 3, len -= 4)
        if (!decode_four(text, to))
            return false;
    return decode_rest(text, len, to);
}
