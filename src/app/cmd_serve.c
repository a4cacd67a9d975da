/* SPDX-License-Identifier: MIT */
#include "app/command.h"
#include "app/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REPORT_MAX = 65536 };

/* Every connection is a file: take what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Signals are taken by sigwait in main's thread; every thread inherits this mask. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void reload(struct server *server)
{
    struct buf report = BUF_INIT(REPORT_MAX);
    struct err err;

    if (server_reload(server, &report, NULL, &err) < 0) {
        /* it is logged, and the old script goes on */
    }
    buf_release(&report);
}

static const char *signal_name(int signal_number)
{
    return signal_number == SIGTERM ? "SIGTERM" : "SIGINT";
}

static int run_until_stopped(struct server *server, const sigset_t *signals)
{
    int signal_number = 0, rc;

    for (;;) {
        if (sigwait(signals, &signal_number) != 0)
            continue;
        if (signal_number != SIGHUP)
            break;
        reload(server);
    }
    log_info("stopping", log_str("signal", signal_name(signal_number)));
    rc = server_stop(server);
    if (rc == ERR_BUSY) {
        log_warn("stopped with requests still running; none of them was acknowledged");
        _exit(EXIT_FINE);
    }
    log_info("stopped");
    return rc < 0 ? EXIT_FAILED : EXIT_FINE;
}

static void log_warnings(const struct config *config)
{
    const char *at = buf_text(&config->warnings);

    while (*at) {
        size_t len = strcspn(at, "\n");

        log_warn("configuration", log_bytes("what", at, len));
        at += len + (at[len] == '\n');
    }
}

static int serve(const struct config *config)
{
    struct server *server = NULL;
    sigset_t signals;
    struct err err;

    log_setup((enum log_level)config->log_level, (enum log_format)config->log_format);
    if (!config->webhook_secret && !config->action_secret) {
        log_error("there is nothing to serve: set WORKOS_WEBHOOK_SECRET or WORKOS_ACTION_SECRET "
                  "(or both) to the signing secret that WorkOS's dashboard shows; "
                  "WORKOS_WEBHOOK_SECRET_FILE and WORKOS_ACTION_SECRET_FILE name a file with it");
        return EXIT_FAILED;
    }
    log_warnings(config);
    umask(077);
    raise_file_limit();
    block_signals(&signals);
    if (server_start(&server, config, &err) < 0) {
        log_error("cannot start", log_str("error", err.text));
        return EXIT_FAILED;
    }
    return run_until_stopped(server, &signals);
}

const struct command cmd_serve = {
    .name = "serve",
    .summary = "run the server (also what a bare authkitd does)",
    .about =
        "SIGHUP loads the script (and the certificate) again; SIGTERM finishes what was accepted "
        "and ends.",
    .options = FOR_SERVE,
    .run = serve,
};
