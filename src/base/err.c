/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A cut text must not end inside a UTF-8 character: the log and the database take it as text. */
static void trim_partial_character(char *text, size_t len)
{
    size_t start = len;

    while (start > 0 && len - start < 4) {
        unsigned char c = (unsigned char)text[--start];

        if (c < 0x80)
            return;
        if (c >= 0xC0) {
            size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;

            if (len - start < need)
                text[start] = '\0';
            return;
        }
    }
}

static void write_text(char *text, const char *fmt, va_list args)
{
    int n = vsnprintf(text, ERR_TEXT_MAX, fmt, args);

    if (n < 0)
        text[0] = '\0';
    else if (n >= ERR_TEXT_MAX)
        trim_partial_character(text, ERR_TEXT_MAX - 1);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list args;

    if (err) {
        err->code = code;
        va_start(args, fmt);
        write_text(err->text, fmt, args);
        va_end(args);
    }
    return code;
}

int err_errno(struct err *err, int code, const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    if (err) {
        size_t len;

        err->code = code;
        va_start(args, fmt);
        write_text(err->text, fmt, args);
        va_end(args);
        len = strlen(err->text);
        snprintf(err->text + len, ERR_TEXT_MAX - len, ": %s", strerror(saved));
    }
    return code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    struct err old;
    va_list args;
    size_t len;

    if (!err)
        return ERR_INVALID;
    old = *err;
    va_start(args, fmt);
    write_text(err->text, fmt, args);
    va_end(args);
    len = strlen(err->text);
    if ((size_t)snprintf(err->text + len, ERR_TEXT_MAX - len, "%s", old.text) >= ERR_TEXT_MAX - len)
        trim_partial_character(err->text, ERR_TEXT_MAX - 1);
    return err->code;
}
