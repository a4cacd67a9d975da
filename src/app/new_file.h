/* SPDX-License-Identifier: MIT */
/*
 * new_file - a file that gets its name when it is whole.
 *
 *     new_file_make     FILE.partial-XXXXXX beside it, empty, for its owner's eyes only (mode 0600)
 *     new_file_finish   on disk, and then FILE
 *
 * Threads    main.
 * Ownership  whoever makes it removes what is at .partial when it isn't finished.
 * Errors     ERR_CONFLICT: FILE is there already, and replace wasn't said. ERR_FULL: no room. ERR_IO.
 */
#ifndef APP_NEW_FILE_H
#define APP_NEW_FILE_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct new_file {
    const char *path;
    bool replace;
    char partial[PATH_MAX];
};

/* path is borrowed. */
int new_file_make(struct new_file *out, const char *path, bool replace, struct err *err) MUST_CHECK;
int new_file_finish(const struct new_file *file, struct err *err) MUST_CHECK;

/* Is there room for so many bytes where path is? ERR_FULL says how much is missing. */
int new_file_check_room(const char *path, int64_t bytes, struct err *err) MUST_CHECK;

#endif
