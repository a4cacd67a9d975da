/* SPDX-License-Identifier: MIT */
/*
 * command - one subcommand of authkitd, one file each (cmd_NAME.c).
 *
 * Threads    main.
 * Errors     a command prints what went wrong on standard error, as "authkitd: …", and returns the
 *            exit code: 0 fine, 1 failed, 2 wrong usage.
 */
#ifndef APP_COMMAND_H
#define APP_COMMAND_H

#include "app/config.h"

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *operand; /* in the usage line */
    const char *summary; /* one line of the list of commands */
    const char *about;   /* the rest of its own help */
    int options;         /* FOR_…; 0 when it takes none */
    int (*run)(const struct config *config);
    bool runs_on_faults; /* values that are wrong, and told (config.h: only_values) */
};

extern const struct command cmd_serve, cmd_check, cmd_send, cmd_reload, cmd_events, cmd_retry,
    cmd_backfill, cmd_reconcile, cmd_backup, cmd_maintain, cmd_setup, cmd_init, cmd_completion,
    cmd_version, cmd_help;

/* All of them, in the order of the help. */
extern const struct command *const commands[];
extern const size_t command_count;

/* The command of that name; NULL after a complaint that there is none. */
const struct command *command_find(const char *name);

/* The command's own help; NULL: that of the whole program. On standard output. */
void command_print_help(const struct command *command);

/* "authkitd: <text>" on standard error, each further line of the text indented. */
void command_complain(const char *text);

#endif
