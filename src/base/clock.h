/* SPDX-License-Identifier: MIT */
/*
 * clock - what time it is, and how WorkOS writes it.
 *
 * Wall time is for what people read and what WorkOS signs; monotonic time is for deadlines; the time since the
 * boot is for how long something has been so. Wall time alone can be set, and may go back.
 *
 * Threads    any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLOCK_TEXT_MAX = 32, CLOCK_HTTP_MAX = 64 };

int64_t clock_wall_ms(void);
int64_t clock_mono_ns(void);

/* How long the calling thread has had a processor. A system call. */
int64_t clock_thread_cpu_ns(void);

static inline int64_t clock_mono_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* Goes on while the machine is suspended, when monotonic time stands still. */
int64_t clock_boot_ms(void);

/* "2026-01-12T20:17:47.677Z" (UTC) into out. */
void clock_format_ms(int64_t wall_ms, char out[CLOCK_TEXT_MAX]);

/* "Mon, 12 Jan 2026 20:17:47 GMT" into out: as HTTP's Date has it (RFC 9110, section 5.6.7). */
void clock_format_http(int64_t wall_ms, char out[CLOCK_HTTP_MAX]);

/*
 * An instant as text, leniently: date and time joined by 'T' or a space, seconds with up to nine
 * decimals or none, then 'Z', an offset such as +02:00, or nothing (UTC). WorkOS writes
 * "2026-01-12T20:17:47.677Z"; its documentation also shows "2023-04-28 20:05:31.093".
 * Returns false, out untouched, for anything else.
 */
bool clock_parse_us(const char *text, size_t len, int64_t *out_us);

#endif
