/* SPDX-License-Identifier: MIT */
/*
 * frame - does a whole request stand at the front of these bytes?
 *
 * A cautious reading that decides only how long a connection waits before a worker looks at it, and
 * never whether a request is right: what is odd in any way is "ready", and the worker refuses it.
 * Where the header block ends is decided as civetweb decides it.
 *
 * Threads    any; nothing is kept.
 * Limits     of a request above HTTP_READY_BYTES that many are enough: the worker reads the rest.
 */
#ifndef HTTP_FRAME_H
#define HTTP_FRAME_H

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_HEADER_BLOCK_MAX = 16 * 1024, HTTP_READY_BYTES = 32 * 1024 };

/*
 * True when a worker should have a look; at once when the body will be longer than max_body_bytes. False: more bytes are needed; *out_needed is then how many
 * there must be in all (from the start of the request on), or 0 while that can't be known.
 */
bool http_frame_is_ready(const char *bytes, size_t len, size_t max_body_bytes, size_t *out_needed);

#endif
