/* SPDX-License-Identifier: MIT */
#include "base/repeat.h"

#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- kinds */

static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u; /* FNV-1a */
    return hash;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    unsigned char u = (unsigned char)c;

    return is_digit(c) || (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u >= 0x80 ||
           (u && strchr("_-+.@", u));
}

/* How long "handlers.lua:7:" is at the beginning of text, 0 when there is no such thing. */
static size_t place_len(const char *text)
{
    size_t len = strcspn(text, ":\n"), digits;

    if (text[len] != ':')
        return 0;
    digits = strspn(text + len + 1, "0123456789");
    return digits && text[len + 1 + digits] == ':' ? len + digits + 2 : 0;
}

/* Of an id, a number, an email address only that there is one. */
static uint64_t hash_word(uint64_t hash, const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (is_digit(word[i]) || word[i] == '@')
            return hash_bytes(hash, "#", 1);
    return hash_bytes(hash, word, len);
}

static uint64_t hash_kind(const char *message, const char *text)
{
    size_t at = place_len(text);
    uint64_t hash = hash_bytes(14695981039346656037u, message, strlen(message) + 1);

    hash = hash_bytes(hash, text, at);
    while (text[at] && text[at] != '\n') {
        size_t len = 0;

        while (is_word(text[at + len]))
            len++;
        hash = len ? hash_word(hash, text + at, len) : hash_bytes(hash, text + at, 1);
        at += len ? len : 1;
    }
    return hash;
}

/* ---------------------------------------------------------------------------------- counting */

static bool is_over(int64_t since_ms, int64_t now_ms)
{
    return now_ms - since_ms >= REPEAT_MINUTE_MS;
}

/* The kind, or a place for it. With the lock held. */
static struct repeat_kind *find_kind(struct repeats *repeats, uint64_t hash)
{
    struct repeat_kind *oldest = &repeats->kinds[0];

    for (size_t i = 0; i < REPEAT_KINDS_MAX; i++) {
        struct repeat_kind *kind = &repeats->kinds[i];

        if (kind->since_ms && kind->hash == hash)
            return kind;
        if (kind->since_ms < oldest->since_ms)
            oldest = kind;
    }
    return oldest;
}

static void begin_kind(struct repeat_kind *kind, uint64_t hash, int64_t now_ms, const char *message,
                       const char *text)
{
    *kind = (struct repeat_kind){.hash = hash, .since_ms = now_ms, .message = message};
    snprintf(kind->sample, sizeof(kind->sample), "%.*s", (int)strcspn(text, "\n"), text);
    text_make_utf8(kind->sample); /* a character may have been cut */
}

/* With the lock held. */
static bool may_write(struct repeats *repeats, struct repeat_kind *kind)
{
    if (kind->written >= REPEAT_LINES_MAX) {
        kind->left_out++;
        return false;
    }
    if (repeats->written >= REPEAT_ALL_MAX) {
        repeats->left_out++;
        return false;
    }
    kind->written++;
    repeats->written++;
    return true;
}

static void tell(const struct repeat_kind *kind)
{
    if (kind->left_out)
        log_warn("more of the same, left out of the log", log_str("what", kind->message),
                 log_str("error", kind->sample[0] ? kind->sample : NULL),
                 log_int("count", kind->left_out));
}

bool repeat_may(struct repeats *repeats, int64_t now_ms, const char *message, const char *text)
{
    uint64_t hash = hash_kind(message, text);
    struct repeat_kind before = {0}, *kind;
    bool may;

    pthread_mutex_lock(&repeats->lock);
    if (is_over(repeats->since_ms, now_ms)) {
        repeats->since_ms = now_ms;
        repeats->written = 0;
    }
    kind = find_kind(repeats, hash);
    if (!kind->since_ms || kind->hash != hash || is_over(kind->since_ms, now_ms)) {
        before = *kind;
        begin_kind(kind, hash, now_ms, message, text);
    }
    may = may_write(repeats, kind);
    pthread_mutex_unlock(&repeats->lock);
    tell(&before);
    return may;
}

/* ---------------------------------------------------------------------------------- telling */

/* Take one whose time has come; false when there is none. out_more: others will be due later. */
static bool take_one(struct repeats *repeats, int64_t now_ms, bool all, struct repeat_kind *out,
                     bool *out_more)
{
    bool found = false;

    *out_more = false;
    pthread_mutex_lock(&repeats->lock);
    for (size_t i = 0; i < REPEAT_KINDS_MAX && !found; i++) {
        struct repeat_kind *kind = &repeats->kinds[i];

        if (!kind->left_out)
            continue;
        found = all || is_over(kind->since_ms, now_ms);
        *out_more |= !found;
        if (!found)
            continue;
        *out = *kind;
        kind->left_out = 0;
    }
    if (!found && repeats->left_out) {
        found = all || is_over(repeats->since_ms, now_ms);
        *out_more |= !found;
        *out =
            (struct repeat_kind){.message = "errors of many kinds", .left_out = repeats->left_out};
        if (found)
            repeats->left_out = 0;
    }
    pthread_mutex_unlock(&repeats->lock);
    return found;
}

bool repeat_tell(struct repeats *repeats, int64_t now_ms, bool all)
{
    struct repeat_kind kind;
    bool more;

    while (take_one(repeats, now_ms, all, &kind, &more))
        tell(&kind);
    return more;
}

void repeat_init(struct repeats *repeats)
{
    pthread_mutex_init(&repeats->lock, NULL);
}

void repeat_release(struct repeats *repeats)
{
    pthread_mutex_destroy(&repeats->lock);
}
