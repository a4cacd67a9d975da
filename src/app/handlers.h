/* SPDX-License-Identifier: MIT */
/*
 * handlers - the script that the configuration names, loaded with the limits that it sets.
 *
 * Threads    any, one at a time.
 * Ownership  the script is the caller's.
 * Errors     those of script_load; a missing file says which option names it.
 */
#ifndef APP_HANDLERS_H
#define APP_HANDLERS_H

#include "app/config.h"
#include "base/err.h"
#include "script/script.h"

int handlers_load(struct script **out, const struct config *config, struct err *err) MUST_CHECK;

#endif
