/* SPDX-License-Identifier: MIT */
/*
 * notify - tells the supervisor how the server is: systemd's notify protocol, without its library.
 *
 * Under "Type=notify" systemd hands a socket over in NOTIFY_SOCKET; each message is a datagram of
 * lines such as READY=1. With WatchdogSec= it also wants a WATCHDOG=1 every so often and ends the
 * process that stays silent for WATCHDOG_USEC. Without these variables every function does nothing.
 *
 *     notify_open -> notify_ready -> (notify_reloading -> notify_reloaded)* -> notify_stopping
 *
 * What says where the server is (all but WATCHDOG=1) isn't lost when the socket is full or away
 * for a moment: the latest is kept and sent again by the next notify_alive.
 *
 * Threads    notify_open, _close: main, without other threads, since it takes the variables out of
 *            the environment. The others: any.
 * Ownership  a struct notify lives where its owner puts it.
 * Errors     none that matter to a server: the first message that can't be sent is logged.
 * Limits     sending never blocks; a status is cut at NOTIFY_STATUS_MAX bytes.
 */
#ifndef APP_NOTIFY_H
#define APP_NOTIFY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { NOTIFY_STATUS_MAX = 1024, NOTIFY_MESSAGE_MAX = 1280 };

enum notify_state { NOTIFY_STARTING, NOTIFY_READY, NOTIFY_RELOADING, NOTIFY_STOPPING };

struct notify {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un address;
    socklen_t address_len;
    int64_t watchdog_us; /* 0: nobody waits for a sign of life */

    pthread_mutex_t lock;
    enum notify_state state;         /* guarded by lock */
    bool complained;                 /* guarded by lock */
    char unsent[NOTIFY_MESSAGE_MAX]; /* guarded by lock; "" when all was sent */
};

/* From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are gone from the environment then. */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* status is one line for people ("systemctl status" shows it); line ends in it become spaces. */
void notify_ready(struct notify *notify, const char *status);
void notify_stopping(struct notify *notify, const char *status);

/* Nothing before notify_ready and after notify_stopping: a reload makes no server ready. */
void notify_reloading(struct notify *notify);
void notify_reloaded(struct notify *notify, const char *status);

/* A sign of life. Whoever sends it vouches for the server. */
void notify_alive(struct notify *notify);

/* How long one may wait until the next notify_alive; -1: for ever. */
int notify_alive_within_ms(struct notify *notify);

#endif
