/* SPDX-License-Identifier: MIT */
/*
 * interrupt - Ctrl-C and its like as a question, for a command that has something to clear away.
 *
 * SIGINT, SIGTERM, SIGHUP (the terminal was closed) and SIGQUIT only set a flag. SIGPIPE and SIGXFSZ
 * are ignored: what is written then fails, with its reason.
 *
 * Threads    main.
 */
#ifndef APP_INTERRUPT_H
#define APP_INTERRUPT_H

#include <stdbool.h>

void interrupt_catch(void);
bool interrupt_came(void);

/* The same, as db_set_interrupt wants it. */
bool interrupt_ask(void *arg);

#endif
