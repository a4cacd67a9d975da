/* SPDX-License-Identifier: MIT */
/*
 * place - why a database can't be where it is meant to be, in words.
 *
 * SQLite makes files beside a database, even to read it, and says no more than "unable to open" when it can't.
 *
 * Threads    any; nothing is kept, and nothing made.
 * Errors     ERR_IO.
 */
#ifndef STORE_PLACE_H
#define STORE_PLACE_H

#include "base/err.h"

/* May this user make files where path is (which needn't be there)? The text names folder, user and reason. */
int place_check_folder(const char *path, struct err *err) MUST_CHECK;

/* A link to a file that isn't there: to make it there is left to whoever knows what the link is for (a volume
 * that isn't mounted, say). */
int place_check_link(const char *path, struct err *err) MUST_CHECK;

#endif
