/* SPDX-License-Identifier: MIT */
/*
 * source - the text of a script and of the modules that it requires, read once.
 *
 * A state that hit a limit is closed and made anew from the text that was loaded, not from files
 * that somebody may be editing by now. So texts are read on first use and kept; twins of a script
 * share them.
 *
 * Threads    source_main, source_module, source_find: any, several at once.
 * Ownership  texts are borrowed until source_free.
 * Errors     ERR_ABSENT: no such file. ERR_IO: cannot be read. ERR_INVALID: a module name that
 *            can't be a file beside the script, or a file above SOURCE_MAX_BYTES.
 */
#ifndef SCRIPT_SOURCE_H
#define SCRIPT_SOURCE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { SOURCE_MAX_BYTES = 4 * 1024 * 1024 };

struct source;

struct source_text {
    const char *file; /* relative to the script's folder: "handlers.lua", "lib/todos.lua" */
    const char *text; /* without a byte order mark; a first line "#!…" is blank */
    size_t len;
};

/* path is the script itself. */
int source_new(struct source **out, const char *path, struct err *err) MUST_CHECK;
void source_free(struct source *source); /* NULL is fine */

struct source_text source_main(const struct source *source);

/* The text of require's "a.b": a/b.lua or a/b/init.lua beside the script. */
int source_module(struct source *source, const char *name, struct source_text *out, struct err *err)
    MUST_CHECK;

/* The text of that file (as struct source_text names it), if it was read before. */
bool source_find(struct source *source, const char *file, struct source_text *out);

/* A line of it, from 1 on: borrowed, not terminated, without its end; "" behind the last one. */
const char *source_line(const struct source_text *text, int line, size_t *out_len);

#endif
