/* SPDX-License-Identifier: MIT */
/*
 * certificate_status - which certificate the world is given, and whether the files on disk are another one
 * that was refused: for whoever asks (ready.h, metrics.h, and who reloads). Whoever reads them tells it.
 *
 * Threads    certificate_status_new, _free: main. The rest: any.
 * Ownership  texts are copied.
 * Errors     ERR_NOMEM.
 */
#ifndef ADMIN_CERTIFICATE_STATUS_H
#define ADMIN_CERTIFICATE_STATUS_H

#include "base/err.h"

#include <stdint.h>

struct certificate_status;

int certificate_status_new(struct certificate_status **out, struct err *err) MUST_CHECK;
void certificate_status_free(struct certificate_status *status); /* NULL is fine */

/* One is served from now on; it is valid from and to these, wall time. */
void certificate_status_loaded(struct certificate_status *status, int64_t from_ms, int64_t to_ms);

/* One was refused, and the former one goes on. */
void certificate_status_refused(struct certificate_status *status, const char *problem);

struct certificate_load {
    int64_t from_ms, to_ms; /* wall time: of the one that is served */
    int64_t refused_ms;     /* wall time: the last reading was refused then; 0: it wasn't */
    char problem[ERR_TEXT_MAX];
};
void certificate_status_get(struct certificate_status *status, struct certificate_load *out);

#endif
