/* SPDX-License-Identifier: MIT */
/*
 * key_source - where the key set comes from: a URL of http or https, or a file.
 *
 * A file is named by a URL, too: file:/etc/authkitd/keys.json or file:///etc/authkitd/keys.json. It is
 * read here, not by the HTTP client, and only when it is a regular file.
 *
 * Threads    a key_source belongs to one thread at a time; it blocks. cancelled is called on that
 *            thread, several times a second, while it waits for an answer.
 * Ownership  opts is copied, its texts too.
 * Errors     the text names the URL or the file. ERR_IO: not reached, not there, no good answer.
 *            ERR_BUSY: 429. ERR_LIMIT: larger than KEY_SOURCE_MAX_BYTES. ERR_INVALID: what came is no
 *            key set that can be used; or the URL. ERR_CLOSED: cancelled. ERR_NOMEM.
 */
#ifndef AUTH_KEY_SOURCE_H
#define AUTH_KEY_SOURCE_H

#include "auth/key_set.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { KEY_SOURCE_MAX_BYTES = 256 * 1024 };

struct key_source;

struct key_source_opts {
    const char *url;
    const char *user_agent;
    bool (*cancelled)(void *arg); /* may be NULL */
    void *arg;
};

/* What a URL must be and this one isn't, in words, or NULL. */
const char *key_source_fault(const char *url);

bool key_source_is_file(const char *url);

/* Over a network, and nothing there keeps others from changing the keys on their way. */
bool key_source_is_open_to_others(const char *url);

int key_source_open(struct key_source **out, const struct key_source_opts *opts, struct err *err)
    MUST_CHECK;
void key_source_close(struct key_source *source); /* NULL is fine */

/* *out_later_ms, also filled on failure: when the server wants to be asked again (Retry-After); -1:
 * it didn't say. */
int key_source_read(struct key_source *source, struct key_set **out, int64_t *out_later_ms,
                    struct err *err) MUST_CHECK;

#endif
