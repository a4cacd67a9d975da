/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/advice.h"
#include "app/database.h"
#include "app/notify.h"
#include "app/privileges.h"
#include "app/server.h"
#include "base/thread.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every connection is a file: take what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Signals are taken by sigtimedwait in main's thread; every thread inherits this mask. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* what is written beyond the limit fails, with its reason */
}

static const char *signal_name(int signal_number)
{
    return signal_number == SIGTERM ? "SIGTERM" : "SIGINT";
}

/* The next signal. Who waits for a sign of life gets it from here: a server whose main thread no
 * longer comes round wouldn't hear a SIGTERM either. */
static int next_signal(const sigset_t *signals, struct notify *notify)
{
    int signal_number;

    do {
        int ms;
        struct timespec timeout;

        notify_alive(notify);
        ms = notify_alive_within_ms(notify);
        timeout = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
        signal_number = sigtimedwait(signals, NULL, ms < 0 ? NULL : &timeout);
    } while (signal_number < 0); /* the time was up, or something else woke us */
    return signal_number;
}

static int run_until_stopped(struct server *server, const sigset_t *signals, struct notify *notify)
{
    int signal_number, code;
    bool left;

    while ((signal_number = next_signal(signals, notify)) == SIGHUP)
        server_ask_reload(server);
    if (server_has_failed(server))
        log_info("stopping", log_str("why", "the database failed"));
    else
        log_info("stopping", log_str("signal", signal_name(signal_number)));
    notify_stopping(notify, "finishing what was accepted");
    code = server_stop(server, &left) < 0 ? EXIT_FAILED : EXIT_FINE;
    log_info("stopped");
    if (left)
        _exit(code);
    return code;
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

/* What isn't ours isn't touched, not even by opening it. */
static int check_database(const struct config *config, struct err *err)
{
    int64_t version;
    int rc = database_check(config->db, &version, err);

    return rc == ERR_ABSENT ? 0 : rc;
}

static int refuse_to_serve_nothing(const struct config *config)
{
    struct buf text = BUF_INIT(8192);

    advice_put_no_secrets(&text, config, "serve");
    log_error("there is nothing to serve: neither WORKOS_WEBHOOK_SECRET nor WORKOS_ACTION_SECRET "
              "is set",
              log_str("next", buf_text(&text)));
    buf_release(&text);
    return EXIT_FAILED;
}

/* glibc makes eight arenas for each processor, and what lies free in one no other can use. Hardly more threads
 * run at once than there are processors, and the writer (http/crew.h). */
static void limit_arenas(void)
{
    if (!getenv("MALLOC_ARENA_MAX"))
        mallopt(M_ARENA_MAX, thread_processors() + 2);
}

static int serve(const struct config *config)
{
    struct server *server = NULL;
    struct notify notify;
    sigset_t signals;
    struct err err;
    int code = EXIT_FAILED;

    log_setup((enum log_level)config->log_level, (enum log_format)config->log_format);
    if (!config->webhook_secret && !config->action_secret)
        return refuse_to_serve_nothing(config);
    log_warnings(config);
    umask(077);
    privileges_drop(privileges_is_low_port(config->listen) ||
                    privileges_is_low_port(config->admin_listen));
    raise_file_limit();
    limit_arenas();
    block_signals(&signals);
    notify_open(&notify);
    /* One that is asked to stop while it starts is there all the same, and the signal waits. */
    if (check_database(config, &err) < 0 ||
        (server_start(&server, config, &notify, &err) < 0 && !server))
        log_error("cannot start", log_str("error", err.text));
    else
        code = run_until_stopped(server, &signals, &notify);
    notify_close(&notify);
    return code;
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
