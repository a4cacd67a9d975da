/* SPDX-License-Identifier: MIT */
/*
 * listen - the socket that connections come in by.
 *
 * Threads    any.
 * Ownership  the descriptor is the caller's.
 * Errors     ERR_IO, and the text names the address.
 */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "base/err.h"

#include <stdbool.h>

enum { HTTP_ADDRESS_MAX = 64 };

/* Is it in the form that http_listen takes? Whether it is this machine's, and free, only listening shows. */
bool http_can_listen(const char *address);

/*
 * Listen on "127.0.0.1:8080", "0.0.0.0:80" or "[::1]:8080"; "localhost" is taken as 127.0.0.1, and
 * "[::]" takes IPv4 connections, too. Port 0 is any free one; out_address is told the real one.
 */
int http_listen(const char *address, int *out_fd, char out_address[HTTP_ADDRESS_MAX],
                struct err *err) MUST_CHECK;

#endif
