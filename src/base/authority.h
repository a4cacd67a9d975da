/* SPDX-License-Identifier: MIT */
/*
 * authority - "host", "host:port", "[::1]" or "[::1]:port", as it stands in a URL or a Host header.
 *
 * Threads    any; nothing is kept.
 */
#ifndef BASE_AUTHORITY_H
#define BASE_AUTHORITY_H

#include <stdbool.h>
#include <stddef.h>

/* How much of it is the host, brackets included. */
size_t authority_host_length(const char *authority);

/* Whether only this machine can reach what listens at its host: "localhost", 127.0.0.0/8, [::1]. */
bool authority_is_loopback(const char *authority);

#endif
