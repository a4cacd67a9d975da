/* SPDX-License-Identifier: MIT */
/*
 * script_status - which script runs, and how the last load went: for people who ask (dashboard.h).
 *
 * Threads    script_status_new, _free: main. The rest: any.
 * Ownership  texts are copied.
 * Errors     ERR_NOMEM. Where there is no memory for a text later, it is left out.
 */
#ifndef APP_SCRIPT_STATUS_H
#define APP_SCRIPT_STATUS_H

#include "base/buf.h"
#include "base/err.h"

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
