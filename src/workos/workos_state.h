/* SPDX-License-Identifier: MIT */
/*
 * workos_state - what the files of this room share.
 *
 * The script and every prepared statement belong to the writer thread from workos_open to
 * workos_close; the keys are only read.
 */
#ifndef WORKOS_WORKOS_STATE_H
#define WORKOS_WORKOS_STATE_H

#include "store/writer.h"
#include "workos/mirror.h"
#include "workos/signature.h"
#include "workos/workos.h"

struct workos {
    struct workos_opts opts;
    struct signing_keys *webhook_keys; /* NULL: the endpoint is off */
    struct signing_keys *action_keys;
    struct writer *writer;

    /* writer thread only */
    struct script *script;
    struct mirror *mirror;
    struct stmt *insert_event, *mark_failed, *is_late, *erase_events;
    struct stmt *begin_function, *keep_function, *undo_function; /* a savepoint of its own */
};

#endif
