/* SPDX-License-Identifier: MIT */
/*
 * log - lines for people and for machines, on standard error.
 *
 * A line is a level, a message and named fields. As text:
 *     2026-01-12T20:17:47.677Z INFO  event failed  id=event_01K error="handlers.lua:7: oops"
 * as JSON, one object a line with time, level, msg and the fields. What plays tricks on a terminal
 * (text_trick_size in text.h) is escaped in both, \x1b or \u009b, so that a stranger's name can neither
 * forge a line nor change what is shown of one. Never pass a secret.
 *
 *     log_info("listening", log_str("url", url), log_int("threads", n));
 *
 * Threads    any, after log_setup (main, before other threads). One line at a time, in pieces of PIPE_BUF bytes.
 * Limits     a line is cut at LOG_LINE_MAX bytes. Where nobody takes them (a full pipe, a terminal that is
 *            held) one waits LOG_PATIENCE_MS at most, and those that follow not at all: they are lost, and
 *            counted in the next line that isn't. So a server doesn't hang on its log.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_LINE_MAX = 16384, LOG_PATIENCE_MS = 1000 };

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_field {
    const char *key;  /* NULL ends the list */
    const char *text; /* borrowed for the call; NULL for a number */
    size_t len;
    int64_t number;
};

void log_setup(enum log_level level, enum log_format format);
bool log_is_on(enum log_level level);

/* A field whose text is NULL is left out. */
struct log_field log_str(const char *key, const char *text);
struct log_field log_bytes(const char *key, const char *text, size_t len);
struct log_field log_int(const char *key, int64_t number);

void log_write(enum log_level level, const char *message, const struct log_field *fields);

/*
 * For what strangers, or a full disk, can cause thousands of times a second: true at most once a
 * second for each limit, which is static and starts as zeros.
 *     static struct log_limit limit;
 *     if (log_may(&limit)) log_warn(…);
 */
struct log_limit {
    _Atomic int64_t quiet_until_ms;
};
bool log_may(struct log_limit *limit);

#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}})
#define log_debug(message, ...) log_write(LOG_LEVEL_DEBUG, message, LOG_FIELDS(__VA_ARGS__))
#define log_info(message, ...) log_write(LOG_LEVEL_INFO, message, LOG_FIELDS(__VA_ARGS__))
#define log_warn(message, ...) log_write(LOG_LEVEL_WARN, message, LOG_FIELDS(__VA_ARGS__))
#define log_error(message, ...) log_write(LOG_LEVEL_ERROR, message, LOG_FIELDS(__VA_ARGS__))

#endif
