/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BEGINNING_MAX = 1000 }; /* even if every byte must be escaped, a line holds it */

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_labels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

/* Written by log_setup before other threads start, only read afterwards. */
static enum log_level threshold = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;

/* One line at a time: whoever has seen that there is room is the one to fill it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_stuck; /* nobody takes lines, at the last look; guarded by lock */
static long lost;     /* lines since then; guarded by lock */

/* Marks a field that log_str was given NULL for: it is passed over, but doesn't end the list. */
static const char absent[] = "";

void log_setup(enum log_level level, enum log_format format)
{
    threshold = level;
    line_format = format;
}

bool log_is_on(enum log_level level)
{
    return level >= threshold;
}

struct log_field log_bytes(const char *key, const char *text, size_t len)
{
    if (!text)
        return (struct log_field){.key = absent};
    return (struct log_field){.key = key, .text = text, .len = len};
}

struct log_field log_str(const char *key, const char *text)
{
    return log_bytes(key, text, text ? strlen(text) : 0);
}

struct log_field log_int(const char *key, int64_t number)
{
    return (struct log_field){.key = key, .number = number};
}

static bool needs_quotes(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F)
            return true;
    }
    return len == 0;
}

/* Text as it is, but on one line and UTF-8, whatever is in it, and without what a terminal would obey; a key
 * without what ends a key. */
static void put_plain(struct buf *line, const char *text, const char *escaped_too)
{
    size_t len = strlen(text);

    while (len > 0) {
        unsigned char c = (unsigned char)*text;
        size_t size = text_utf8_size(text, len);

        if (c == '\n')
            buf_puts(line, "\\n");
        else if (size == 0 || (c < 0x20 && c != '\t') || c == 0x7F || strchr(escaped_too, c))
            buf_printf(line, "\\x%02x", c);
        else if (size > 1 && text_trick_size(text) > 0)
            buf_printf(line, "\\u%04x", text_trick_code(text, size));
        else
            buf_put(line, text, size);
        size += size == 0;
        text += size;
        len -= size;
    }
}

/* Of what stands in the line from start on. */
static void escape_tricks(struct buf *line, size_t start)
{
    struct buf rest = BUF_INIT(LOG_LINE_MAX);

    buf_puts(&rest, line->data + start);
    line->len = start;
    buf_put_plain_json(line, buf_text(&rest));
    line->failed |= !buf_ok(&rest);
    buf_release(&rest);
}

/* buf_put_json_string leaves in what JSON allows. Whoever reads a line of JSON may do so in a terminal, too. */
static void put_json_string(struct buf *line, const char *text, size_t len)
{
    size_t start = line->len;

    buf_put_json_string(line, text, len);
    for (size_t at = start; buf_ok(line) && at < line->len; at++)
        if (text_trick_size(line->data + at) > 0) {
            escape_tricks(line, start);
            return;
        }
}

static void put_text_line(struct buf *line, const char *time, enum log_level level,
                          const char *message, const struct log_field *fields)
{
    buf_printf(line, "%s %s ", time, level_labels[level]);
    put_plain(line, message, "");
    for (const struct log_field *f = fields; f->key; f++) {
        if (f->key == absent)
            continue;
        buf_puts(line, "  ");
        put_plain(line, f->key, " \t=\"");
        buf_putc(line, '=');
        if (!f->text)
            buf_printf(line, "%" PRId64, f->number);
        else if (needs_quotes(f->text, f->len))
            put_json_string(line, f->text, f->len);
        else
            buf_put(line, f->text, f->len);
    }
}

static void put_json_line(struct buf *line, const char *time, enum log_level level,
                          const char *message, const struct log_field *fields)
{
    buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":", time, level_names[level]);
    put_json_string(line, message, strlen(message));
    for (const struct log_field *f = fields; f->key; f++) {
        if (f->key == absent)
            continue;
        buf_putc(line, ',');
        put_json_string(line, f->key, strlen(f->key));
        buf_putc(line, ':');
        if (f->text)
            put_json_string(line, f->text, f->len);
        else
            buf_printf(line, "%" PRId64, f->number);
    }
    buf_putc(line, '}');
}

/* So that a write of PIPE_BUF bytes won't block; also true when any would fail. */
static bool is_taken(void)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    int n;

    do
        n = poll(&out, 1, is_stuck ? 0 : LOG_PATIENCE_MS);
    while (n < 0 && errno == EINTR);
    is_stuck = n == 0;
    return !is_stuck;
}

/* What of it isn't taken in time is lost. */
static void write_all(const char *bytes, size_t len)
{
    while (len > 0 && is_taken()) {
        ssize_t n = write(STDERR_FILENO, bytes, len < PIPE_BUF ? len : PIPE_BUF);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody to tell */
        bytes += n;
        len -= (size_t)n;
    }
}

static void write_line(enum log_level level, const char *message, const struct log_field *fields)
{
    struct buf line = BUF_INIT(LOG_LINE_MAX);
    char time[CLOCK_TEXT_MAX];

    clock_format_ms(clock_wall_ms(), time);
    if (line_format == LOG_FORMAT_JSON)
        put_json_line(&line, time, level, message, fields);
    else
        put_text_line(&line, time, level, message, fields);
    if (!buf_ok(&line)) {
        /* Too long: the message's beginning without the fields beats half a line. */
        char beginning[BEGINNING_MAX + 1];
        const struct log_field *cut = LOG_FIELDS(log_str("cut", "the line is too long"));

        snprintf(beginning, sizeof(beginning), "%s", message);
        buf_reset(&line);
        if (line_format == LOG_FORMAT_JSON)
            put_json_line(&line, time, level, beginning, cut);
        else
            put_text_line(&line, time, level, beginning, cut);
    }
    buf_putc(&line, '\n');
    write_all(buf_text(&line), line.len);
    buf_release(&line);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    if (!log_is_on(level))
        return;
    pthread_mutex_lock(&lock);
    if (is_taken()) {
        long lines = lost;

        lost = 0;
        if (lines > 0)
            write_line(LOG_LEVEL_WARN, "lines of this log were lost, since nobody took them",
                       LOG_FIELDS(log_int("lines", lines)));
        write_line(level, message, fields);
    } else {
        lost++;
    }
    pthread_mutex_unlock(&lock);
}

bool log_may(struct log_limit *limit)
{
    int64_t now_ms = clock_mono_ms(), until_ms = limit->quiet_until_ms;

    return now_ms >= until_ms &&
           atomic_compare_exchange_strong(&limit->quiet_until_ms, &until_ms, now_ms + 1000);
}
