/* SPDX-License-Identifier: MIT */
/*
 * advice - what is said to somebody who sees this program for the first time: what is missing, what
 * looks like a slip, what to do next.
 *
 * Threads    main.
 * Errors     none: a text that finds no memory is cut.
 */
#ifndef APP_ADVICE_H
#define APP_ADVICE_H

#include "app/config.h"
#include "base/buf.h"

#define ADVICE_ENV_FILE "authkitd.env" /* what init writes, and the examples name */

/* Neither signing secret is set: what to do before the command is called again. One line. */
void advice_put_no_secrets(struct buf *out, const struct config *config, const char *command);

/* A line for each of the script's event names (joined by spaces) that WorkOS may not know, or will
 * not bring in as this is configured. */
void advice_put_event_names(struct buf *out, const char *names, const struct config *config);

/* All is well: a command a line, to copy, with a word on what it does. */
void advice_put_next(struct buf *out, const struct config *config);

/* A word as the shell reads it, in quotes where it needs them. */
void advice_put_shell_word(struct buf *out, const char *word);

#endif
