/* SPDX-License-Identifier: MIT */
/*
 * env_file - a file of KEY=value lines, as systemd and Docker take them.
 *
 * Blank lines and lines that begin with '#' are skipped, "export " in front of a key too. A value
 * may stand in single or double quotes; in double quotes \" and \\ are an escaped character. The
 * last line of a key counts. A byte order mark in front of all is no part of it.
 *
 * env_file_set writes a file anew, whole or not at all: it is never seen half written, and keeps its owner,
 * group and mode. A file that it makes is for its owner alone.
 *
 * Threads    main.
 * Ownership  texts are borrowed until env_file_free, which wipes them: they may be secrets.
 * Errors     ERR_IO and ERR_INVALID (input_file.h) name the file. A line that won't do is no error, but a
 *            fault: all of them shall be told.
 */
#ifndef APP_ENV_FILE_H
#define APP_ENV_FILE_H

#include "base/err.h"

#include <stddef.h>

struct env_file;

int env_file_read(struct env_file **out, const char *path, struct err *err) MUST_CHECK;
void env_file_free(struct env_file *file); /* NULL is fine, here and below */

/* The lines that were passed over, and why: "FILE:LINE: …" for each of the first ten, with newlines between.
 * NULL: there are none. */
const char *env_file_faults(const struct env_file *file);

const char *env_file_path(const struct env_file *file);
const char *env_file_get(const struct env_file *file, const char *key, int *out_line);
size_t env_file_count(const struct env_file *file);
const char *env_file_at(const struct env_file *file, size_t i, int *out_line); /* the key */

/* Set the key in the file, which is made when it isn't there: the value of the key's last line is
 * replaced, or a line added; all other bytes stay. The value is one line. */
int env_file_set(const char *path, const char *key, const char *value, struct err *err) MUST_CHECK;

#endif
