/* SPDX-License-Identifier: MIT */
/*
 * workos_state - what the files of this room share.
 *
 * The script and every prepared statement belong to the writer thread from workos_open to
 * workos_close; the keys are only read.
 */
#ifndef WORKOS_WORKOS_STATE_H
#define WORKOS_WORKOS_STATE_H

#include "base/repeat.h"
#include "store/writer.h"
#include "workos/bodies.h"
#include "workos/counts.h"
#include "workos/event_log.h"
#include "workos/mirror.h"
#include "workos/retention.h"
#include "workos/signature.h"
#include "workos/suspects.h"
#include "workos/upkeep.h"
#include "workos/watchdog.h"
#include "workos/workos.h"

#include <stdatomic.h>

struct workos {
    struct workos_opts opts;
    struct signing_keys *webhook_keys; /* NULL: the endpoint is off */
    struct signing_keys *action_keys;
    struct writer *writer;
    struct watchdog *watchdog; /* NULL: nobody watches */
    struct upkeep *upkeep;
    struct poller *poller; /* NULL: nobody polls; set before the listeners start */
    /* for the writer: webhooks, for which no thread need wait, and calls, each with a thread that does */
    atomic_size_t events_waiting, calls_waiting;
    struct workos_counts counts;
    struct repeats repeats; /* of what functions do wrong */

    /* writer thread only */
    struct script *script;
    uint64_t script_number; /* counts the scripts there have been */
    struct mirror *mirror;
    struct event_log *events;
    struct suspects *suspects;
    struct bodies *bodies;
    struct retention retention;
    struct stmt *begin_function, *keep_function, *undo_function; /* a savepoint of its own */
};

/* After a call of the script. Thread: writer. */
static inline void note_script_memory(struct workos *workos)
{
    size_t bytes = workos->script ? script_memory_bytes(workos->script) : 0;

    atomic_store_explicit(&workos->counts.script_bytes, bytes, memory_order_relaxed);
}

/* A call of the script that began then is over. Thread: writer. */
static inline void note_function(struct workos *workos, struct metric_histogram *kind,
                                 int64_t took_ns)
{
    metric_observe(kind, &metric_scale_seconds, (uint64_t)took_ns);
    note_script_memory(workos);
}

/* Of what waits for the writer, be it events or calls: are these many? Any thread. */
static inline bool workos_is_crowd(const struct workos *workos, const atomic_size_t *waiting)
{
    return workos->opts.crowd &&
           atomic_load_explicit(waiting, memory_order_relaxed) >= workos->opts.crowd;
}

#endif
