/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t read_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_boot_ms(void)
{
    return read_ns(CLOCK_BOOTTIME) / 1000000;
}

int64_t clock_thread_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* In UTC. Returns the milliseconds beyond the second. */
static int split(int64_t wall_ms, struct tm *out)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    int ms = (int)(wall_ms % 1000);

    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    gmtime_r(&seconds, out);
    return ms;
}

void clock_format_http(int64_t wall_ms, char out[CLOCK_HTTP_MAX])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;

    split(wall_ms, &tm);
    /* Not strftime, whose names are the locale's. */
    snprintf(out, CLOCK_HTTP_MAX, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
             tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void clock_format_ms(int64_t wall_ms, char out[CLOCK_TEXT_MAX])
{
    struct tm tm;
    int ms = split(wall_ms, &tm);
    size_t len;

    len = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + len, CLOCK_TEXT_MAX - len, ".%03dZ", ms);
}

/* A reading position in a text that is not NUL-terminated. */
struct cursor {
    const char *at, *end;
};

static bool take_char(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_digits(struct cursor *c, int count, int low, int high, int *out)
{
    int value = 0;

    if (c->end - c->at < count)
        return false;
    for (int i = 0; i < count; i++) {
        if (c->at[i] < '0' || c->at[i] > '9')
            return false;
        value = value * 10 + (c->at[i] - '0');
    }
    if (value < low || value > high)
        return false;
    c->at += count;
    *out = value;
    return true;
}

static bool take_fraction_us(struct cursor *c, int *out_us)
{
    int us = 0, digits = 0;

    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        if (digits < 6)
            us = us * 10 + (*c->at - '0');
        if (++digits > 9)
            return false;
        c->at++;
    }
    for (int i = digits; i < 6; i++)
        us *= 10;
    *out_us = us;
    return digits > 0;
}

static bool take_offset_minutes(struct cursor *c, int *out)
{
    int sign, hours, minutes = 0;

    *out = 0;
    if (c->at == c->end || take_char(c, 'Z') || take_char(c, 'z'))
        return true;
    if (take_char(c, '+'))
        sign = 1;
    else if (take_char(c, '-'))
        sign = -1;
    else
        return false;
    if (!take_digits(c, 2, 0, 23, &hours))
        return false;
    take_char(c, ':');
    if (c->at < c->end && !take_digits(c, 2, 0, 59, &minutes))
        return false;
    *out = sign * (hours * 60 + minutes);
    return true;
}

bool clock_parse_us(const char *text, size_t len, int64_t *out_us)
{
    struct cursor c = {text, text + len};
    struct tm tm = {0};
    int year, month, us = 0, offset_minutes;
    time_t seconds;

    if (!take_digits(&c, 4, 0, 9999, &year) || !take_char(&c, '-') ||
        !take_digits(&c, 2, 1, 12, &month) || !take_char(&c, '-') ||
        !take_digits(&c, 2, 1, 31, &tm.tm_mday))
        return false;
    if (!take_char(&c, 'T') && !take_char(&c, 't') && !take_char(&c, ' '))
        return false;
    if (!take_digits(&c, 2, 0, 23, &tm.tm_hour) || !take_char(&c, ':') ||
        !take_digits(&c, 2, 0, 59, &tm.tm_min))
        return false;
    if (take_char(&c, ':') && !take_digits(&c, 2, 0, 60, &tm.tm_sec))
        return false;
    if (take_char(&c, '.') && !take_fraction_us(&c, &us))
        return false;
    if (!take_offset_minutes(&c, &offset_minutes) || c.at != c.end)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    seconds = timegm(&tm) - (time_t)offset_minutes * 60;
    *out_us = (int64_t)seconds * 1000000 + us;
    return true;
}
