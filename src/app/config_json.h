/* SPDX-License-Identifier: MIT */
/*
 * config_json - the options of serve and what they are, for the dashboard. Of secrets, only whether they
 * are set.
 *
 * Threads    any; the configuration doesn't change.
 */
#ifndef APP_CONFIG_JSON_H
#define APP_CONFIG_JSON_H

#include "base/buf.h"

/* Objects with commas between them, as dashboard.h has them. config: a struct config. */
void config_json_put(const void *config, struct buf *out);

#endif
