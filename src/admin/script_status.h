/* SPDX-License-Identifier: MIT */
/*
 * script_status - which script runs, and how its loads went: for whoever asks (dashboard.h, ready.h,
 * metrics.h). The reloader tells it.
 *
 * Threads    script_status_new, _free: main. The rest: any.
 * Ownership  texts are copied.
 * Errors     ERR_NOMEM. Where there is no memory for a text later, it is left out.
 */
#ifndef ADMIN_SCRIPT_STATUS_H
#define ADMIN_SCRIPT_STATUS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct script_status;

int script_status_new(struct script_status **out, const char *file, struct err *err) MUST_CHECK;
void script_status_free(struct script_status *status); /* NULL is fine */

/* The file is about to be read. */
void script_status_reading(struct script_status *status);

/* A script was installed. The names as script.h gives them; report: what it changed, lines. */
void script_status_loaded(struct script_status *status, const char *events, const char *actions,
                          const char *routes, const struct buf *report);

/* One was refused, and the former one goes on. */
void script_status_refused(struct script_status *status, const char *problem);

struct script_loads {
    uint64_t good, refused; /* loads behind the first one */
    int64_t loaded_ms;      /* wall time: when the script that runs was installed */
    int64_t refused_ms;     /* wall time: the last load was refused then; 0: it wasn't */
    char problem[ERR_TEXT_MAX];
};
void script_status_get(struct script_status *status, struct script_loads *out);

/*
 * Append, as JSON:
 *     file              as it was configured
 *     changed_on_disk   it isn't the one that was read last; modules aren't looked at
 *     loaded_at         ms, of the script that runs
 *     events, actions, routes   the names of its functions
 *     last_load         {"at":ms,"outcome":"loaded|refused","text":…}
 */
void script_status_put(struct script_status *status, struct buf *out);

#endif
