/* SPDX-License-Identifier: MIT */
/*
 * frame - does a whole request stand at the front of these bytes?
 *
 * A cautious reading that decides only how long a connection waits before a worker looks at it, and
 * never whether a request is right: what is odd in any way is "ready", and the worker refuses it.
 * Where the header block ends is decided as civetweb decides it. Bytes may come one by one: what
 * has been looked at in vain is not looked at again.
 *
 * Threads    a frame belongs to whoever has the connection.
 * Ownership  nothing is kept of the bytes; they must stand at the same place, as seen from their
 *            start, as long as the frame is used. {0} is the frame of a new request.
 */
#ifndef HTTP_FRAME_H
#define HTTP_FRAME_H

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_HEADER_BLOCK_MAX = 16 * 1024 };

struct http_frame {
    size_t seen;       /* bytes in which no end of the headers was found */
    size_t header_len; /* with the empty line; 0: not known yet */
    size_t body_len;   /* as announced */
    bool is_odd;       /* somebody should have a look, and refuse it */
    bool expects;      /* there is an Expect header: no body comes before a 100 does */
    bool continued;    /* the 100 was sent; whoever sends it sets this */
    bool has_tails;    /* blanks stand behind the value of a header, perhaps */
};

/*
 * True when a worker should have a look: a whole request is there, or never will be, or the headers
 * alone call for an answer (a body above max_body_bytes, an expectation).
 */
bool http_frame_is_ready(struct http_frame *frame, const char *bytes, size_t len,
                         size_t max_body_bytes);

/*
 * Blanks behind a header's value aren't part of it (RFC 9112, 5.1), but civetweb takes them for it. Where there
 * are any, they change places with the value: in front of it nobody minds them, and all else stands where
 * it stood. For a frame that is ready; bytes as they were given for it.
 */
void http_frame_move_tails(const struct http_frame *frame, char *bytes);

/* How many bytes the request is made of. */
static inline size_t http_frame_size(const struct http_frame *frame)
{
    return frame->header_len + frame->body_len;
}

#endif
