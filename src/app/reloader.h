/* SPDX-License-Identifier: MIT */
/*
 * reloader - loads the script, and loads it and the certificate again, on a thread of its own.
 *
 * A load may take long: a script may loop for seconds before it is refused, a new schema may copy a
 * large table. Whoever takes the signals must not wait for that, so they only ask.
 *
 *     reloader_ask  --> IDLE --> INSTALLING (certificate) --> LOADING (script) --> INSTALLING --> IDLE
 *     reloader_run                                              |   (writer: schema, swap)         ^
 *                                                               +------------ refused -------------+
 *
 * The first load is a part of reloader_start, which waits for it, and may be told to wait no longer: who
 * stops the server while it starts has not to wait for the script's limits.
 *
 * However many ask while a load runs, one more follows, and its outcome is theirs all. A load reads
 * what was there when it was asked for, since it begins afterwards.
 *
 * The end doesn't wait for a script that loads: in LOADING the thread touches nothing but the
 * configuration and a script of its own, and installs nothing any more once reloader_refuse was
 * called. So it can be left behind by a process that ends. In INSTALLING it can't, as the writer
 * may be changing tables; a process that ends nevertheless leaves them as they were, since nothing
 * of it is committed.
 *
 * Threads    reloader_start, _refuse, _stop: main. reloader_ask, _run: any; _run may wait long.
 * Ownership  what opts points to must outlive the reloader, and a thread that was left behind.
 * Errors     those of script_load and workos_install; ERR_CLOSED: the server is stopping. Every
 *            outcome is logged, noted in script_status.h and certificate_status.h, and told to the supervisor.
 */
#ifndef APP_RELOADER_H
#define APP_RELOADER_H

#include "admin/certificate_status.h"
#include "admin/script_status.h"
#include "app/config.h"
#include "app/notify.h"
#include "base/buf.h"
#include "base/err.h"
#include "crypto/tls.h"
#include "workos/workos.h"

struct reloader_opts {
    const struct config *config;
    struct workos *workos;
    struct tls_server *tls;                 /* NULL: no certificate */
    struct certificate_status *certificate; /* with tls */
    struct notify *notify;
    struct script_status *status;
};

struct reloader;

/*
 * Starts the thread, and waits for its first load: the server starts with it or not at all. *out is set
 * whenever there is a thread to be stopped, also on an error. ERR_CLOSED: should_stop said so meanwhile.
 */
int reloader_start(struct reloader **out, const struct reloader_opts *opts,
                   bool (*should_stop)(void), struct err *err) MUST_CHECK;

/* Load again, soon. */
void reloader_ask(struct reloader *reloader);

/* Load again, and wait for the outcome. report gets a line for each change of the schema, and
 * each warning. */
int reloader_run(struct reloader *reloader, struct buf *report, struct err *err) MUST_CHECK;

/* From now on no load begins, and none is installed; those who wait get ERR_CLOSED. NULL is fine. */
void reloader_refuse(struct reloader *reloader);

enum reloader_end {
    RELOADER_ENDED,           /* the thread is joined, everything is freed */
    RELOADER_LEFT_LOADING,    /* it loads a script: what else opts points to may be taken down */
    RELOADER_LEFT_INSTALLING, /* it was still installing after wait_ms: nothing may */
};

/* After reloader_refuse. Unless it ENDED, the process must end with _exit. NULL is fine. */
enum reloader_end reloader_stop(struct reloader *reloader, int wait_ms);

#endif
