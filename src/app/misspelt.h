/* SPDX-License-Identifier: MIT */
/*
 * misspelt - variables that look as if they were meant for us, and aren't any of ours.
 *
 *     AUTHKITD_LISTN, WORKOS_API_KYE    a slip
 *     authkitd_retention                in an env file
 *     exportAUTHKITD_DB                 in an env file: a blank is missing
 *
 * An env file is ours, so that a name which begins like ours is told, whatever follows. The environment is
 * everybody's: the app beside us has WORKOS_ variables of its own, and of those only a slip is told. What is
 * known to be others' (WORKOS_COOKIE_PASSWORD) never is.
 *
 * Threads    any; nothing is kept.
 */
#ifndef APP_MISSPELT_H
#define APP_MISSPELT_H

#include "base/buf.h"

#include <stdbool.h>

/* Append a line when the variable is one of those. where, such as "prod.env:3: ", stands in front of it; "" is the
 * environment. */
void misspelt_put(struct buf *out, const char *variable, const char *where);

#endif
