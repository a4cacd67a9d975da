/* SPDX-License-Identifier: MIT */
/*
 * service - the service's options (workos.h), as the configuration has them.
 *
 * Threads    any.
 * Ownership  texts are borrowed from the configuration and from note_path.
 */
#ifndef APP_SERVICE_H
#define APP_SERVICE_H

#include "app/config.h"
#include "store/db.h"
#include "workos/workos.h"

#include <limits.h>

enum { SERVICE_PATH_MAX = PATH_MAX };

/* What needs no server: queue, timeouts, retention, and where the watchdog's note is, which is written
 * to note_path. */
void service_fill(struct workos_opts *out, const struct config *config, struct db *db,
                  char note_path[SERVICE_PATH_MAX]);

/* How WorkOS's API is reached; false when there is no key. */
bool service_api(const struct config *config, struct workos_api_opts *out);

#endif
