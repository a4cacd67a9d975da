/* SPDX-License-Identifier: MIT */
/*
 * peer - what the two peers in C share: civetweb, the signature, a JSON text read just far enough.
 *
 * It stands for the best that a good engineer would write by hand for this one purpose, and nothing
 * else: no check of the request's framing beyond civetweb's own, of the JSON beyond finding what is
 * wanted, of the clock beyond the tolerance; no retries, no script, no erasure.
 *
 * Threads    take is called on civetweb's, as many at once as there are connections.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>

/* A text inside the body; at is NULL when it isn't there. */
struct peer_text {
    const char *at;
    size_t len;
};

/* The strings of an event that are wanted, as they stand in the body: escapes are left as they are. */
struct peer_event {
    struct peer_text id, event;
    struct peer_text user_id, email, first_name, last_name, external_id, created_at, updated_at;
};

/* False when it is no JSON object, or has no id, event and data. */
bool peer_read_event(const char *body, size_t len, struct peer_event *out);

struct peer_opts {
    /* A genuine webhook; true when it is stored. */
    bool (*take)(const char *body, size_t len);
};

/* Serves on 127.0.0.1 until SIGTERM: POST /workos/webhook and /workos/action, GET /healthz. */
int peer_serve(int port, int threads, const struct peer_opts *opts);

#endif
