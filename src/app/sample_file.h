/* SPDX-License-Identifier: MIT */
/*
 * sample_file - what a file holds that is to be sent: a whole event, a whole action, or a data object.
 *
 * A whole event or action is sent byte for byte, unless ids are given, which take the place of those in
 * it. One that is of another type than was asked for is refused: what would be sent isn't what was
 * meant, and with an action it would be sent to the wrong endpoint.
 *
 * Threads    main.
 * Errors     ERR_INVALID: it is no JSON, or has no place for an id. ERR_CONFLICT: it is of another type.
 *            ERR_NOMEM.
 */
#ifndef APP_SAMPLE_FILE_H
#define APP_SAMPLE_FILE_H

#include "app/sample.h"

struct sample_file {
    const char *path; /* for error texts */
    const char *text;
    size_t len;
};

/* opts as of sample_write, but for the data, which the file has. */
int sample_file_write(const struct sample_opts *opts, const struct sample_file *file,
                      struct buf *out, struct err *err) MUST_CHECK;

#endif
