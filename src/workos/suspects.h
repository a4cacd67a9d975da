/* SPDX-License-Identifier: MIT */
/*
 * suspects - events that took the process down, and must not do it again.
 *
 * The watchdog's note (watchdog.h) says which event's function ran when the last process was aborted
 * or crashed. If the event is in the log already (it was being retried), it is dead from the start. If
 * not (it had just arrived, and what the process hadn't committed is gone), its id is kept in
 * authkitd_suspects: when WorkOS delivers it again it is taken, and dead at once.
 *
 * Threads    suspects_open: main, before the writer starts. suspects_take: writer.
 *            suspects_close: main, when the writer has stopped.
 * Errors     those of store/db.h; ERR_IO for the note.
 */
#ifndef WORKOS_SUSPECTS_H
#define WORKOS_SUSPECTS_H

#include "base/buf.h"
#include "base/err.h"
#include "store/db.h"
#include "workos/event_log.h"

#include <stdbool.h>

struct suspects;

/* Act on the note, if there is one, and clear it. note_path NULL: there is none. */
int suspects_open(struct suspects **out, struct db *db, struct event_log *events,
                  const char *note_path, struct err *err) MUST_CHECK;
void suspects_close(struct suspects *suspects); /* NULL is fine */

/* Is the event of that id one? Then reason gets why, and it is forgotten: the log has it from now on. */
int suspects_take(struct suspects *suspects, const char *id, bool *out, struct buf *reason,
                  struct err *err) MUST_CHECK;

#endif
