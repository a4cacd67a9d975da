/* SPDX-License-Identifier: MIT */
/*
 * http - a limit: civetweb that reads the body and verifies the signature, and keeps nothing.
 *
 *     bench_peer_http PORT THREADS
 *
 * No JSON, no database: what it can't do, nobody can on this HTTP server. Actions are decided and
 * signed as in path.c, since nothing of them is kept there, either.
 */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

static bool take(const char *body, size_t len)
{
    (void)body;
    return len > 0;
}

int main(int argc, char **argv)
{
    const struct peer_opts opts = {.take = take};

    if (argc != 3) {
        fputs("usage: bench_peer_http PORT THREADS\n", stderr);
        return 2;
    }
    return peer_serve(atoi(argv[1]), atoi(argv[2]), &opts);
}
