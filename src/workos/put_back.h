/* SPDX-License-Identifier: MIT */
/*
 * put_back - failed and dead events back to work, when the operator asks (authkitd retry).
 *
 * They are due at once, with their attempts counted anew. In a running server they run within
 * moments; in a database that nobody serves, when it is served again.
 *
 * Threads    put_back: any but the writer's and the upkeep's; blocks. put_back_at_rest: main, with
 *            the database's lock held. put_back_drop_repeats: any.
 * Errors     those of the writer and of store/db.h; an id that can't be put back is no error.
 */
#ifndef WORKOS_PUT_BACK_H
#define WORKOS_PUT_BACK_H

#include "base/buf.h"
#include "base/err.h"
#include "store/db.h"
#include "workos/workos.h"

#include <stddef.h>
#include <stdint.h>

struct put_back_request {
    const char *const *ids; /* each once */
    size_t count;           /* 0: all that are failed or dead */
};

/* Of an id that is given several times the first is left; the order stays. */
int put_back_drop_repeats(const char **ids, size_t *count, struct err *err) MUST_CHECK;

struct put_back_outcome {
    int64_t put_back;    /* events */
    size_t refused;      /* ids that can't be */
    struct buf problems; /* a line for each of them; yours to release */
};

int put_back(struct workos *workos, const struct put_back_request *request,
             struct put_back_outcome *out, struct err *err) MUST_CHECK;
int put_back_at_rest(struct db *db, const struct put_back_request *request,
                     struct put_back_outcome *out, struct err *err) MUST_CHECK;

#endif
