/* SPDX-License-Identifier: MIT */
#include "app/notify.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RETRY_MS = 1000, /* while something is unsent */
    LOOK_MS = 10000, /* nothing is; but another thread may fail to send something meanwhile */
    SOONEST_MS = 1,
};

/* ------------------------------------------------------------------------- the environment */

static bool take_number(const char *variable, uint64_t max, uint64_t *out)
{
    const char *text = getenv(variable);
    bool is_number = text && text_to_u64(text, strlen(text), max, out);

    unsetenv(variable);
    return is_number;
}

/* A path, or '@' and a name in the abstract namespace. */
static bool read_address(struct notify *notify, const char *text)
{
    size_t len = text ? strlen(text) : 0;

    if (len < 2 || len >= sizeof(notify->address.sun_path) || (text[0] != '/' && text[0] != '@'))
        return false;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, text, len + 1);
    if (text[0] == '@')
        notify->address.sun_path[0] = '\0';
    notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

void notify_open(struct notify *notify)
{
    const char *socket_name = getenv("NOTIFY_SOCKET");
    uint64_t watchdog_us = 0, pid = (uint64_t)getpid();

    *notify = (struct notify){.fd = -1};
    pthread_mutex_init(&notify->lock, NULL);
    if (read_address(notify, socket_name))
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_name && notify->fd < 0)
        log_warn("the supervisor can't be told anything", log_str("NOTIFY_SOCKET", socket_name));
    unsetenv("NOTIFY_SOCKET");
    take_number("WATCHDOG_USEC", INT64_MAX, &watchdog_us);
    take_number("WATCHDOG_PID", INT64_MAX, &pid);
    if (pid == (uint64_t)getpid()) /* else it is meant for another process */
        notify->watchdog_us = (int64_t)watchdog_us;
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
    pthread_mutex_destroy(&notify->lock);
}

/* ------------------------------------------------------------------------- sending */

/* With the lock held. */
static bool send_message(struct notify *notify, const char *message)
{
    ssize_t sent;

    do
        sent = sendto(notify->fd, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&notify->address, notify->address_len);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && !notify->complained) {
        notify->complained = true;
        log_warn("the supervisor can't be told; trying again", log_str("error", strerror(errno)));
    }
    return sent >= 0;
}

/* With the lock held. A newer message takes the place of one that couldn't be sent. */
static void send_state(struct notify *notify, const char *message)
{
    if (send_message(notify, message))
        notify->unsent[0] = '\0';
    else
        snprintf(notify->unsent, sizeof(notify->unsent), "%s", message);
}

static void make_line(char out[NOTIFY_STATUS_MAX], const char *status)
{
    snprintf(out, NOTIFY_STATUS_MAX, "%s", status);
    text_make_utf8(out); /* systemd drops a message that isn't */
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

/* With the lock held. */
static void send_with_status(struct notify *notify, const char *what, const char *status)
{
    char line[NOTIFY_STATUS_MAX], message[NOTIFY_MESSAGE_MAX];

    make_line(line, status);
    snprintf(message, sizeof(message), "%s\nSTATUS=%s", what, line);
    send_state(notify, message);
}

void notify_ready(struct notify *notify, const char *status)
{
    if (notify->fd < 0)
        return;
    pthread_mutex_lock(&notify->lock);
    notify->state = NOTIFY_READY;
    send_with_status(notify, "READY=1", status);
    pthread_mutex_unlock(&notify->lock);
}

void notify_reloading(struct notify *notify)
{
    char what[64];

    if (notify->fd < 0)
        return;
    pthread_mutex_lock(&notify->lock);
    if (notify->state == NOTIFY_READY) {
        notify->state = NOTIFY_RELOADING;
        snprintf(what, sizeof(what), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                 clock_mono_ns() / 1000);
        send_with_status(notify, what, "loading the script again");
    }
    pthread_mutex_unlock(&notify->lock);
}

void notify_reloaded(struct notify *notify, const char *status)
{
    if (notify->fd < 0)
        return;
    pthread_mutex_lock(&notify->lock);
    if (notify->state == NOTIFY_RELOADING) {
        notify->state = NOTIFY_READY;
        send_with_status(notify, "READY=1", status);
    }
    pthread_mutex_unlock(&notify->lock);
}

void notify_stopping(struct notify *notify, const char *status)
{
    if (notify->fd < 0)
        return;
    pthread_mutex_lock(&notify->lock);
    notify->state = NOTIFY_STOPPING;
    send_with_status(notify, "STOPPING=1", status);
    pthread_mutex_unlock(&notify->lock);
}

/* ------------------------------------------------------------------------- signs of life */

void notify_alive(struct notify *notify)
{
    if (notify->fd < 0)
        return;
    pthread_mutex_lock(&notify->lock);
    if (notify->unsent[0] && send_message(notify, notify->unsent))
        notify->unsent[0] = '\0';
    if (notify->watchdog_us > 0)
        send_message(notify, "WATCHDOG=1");
    pthread_mutex_unlock(&notify->lock);
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int notify_alive_within_ms(struct notify *notify)
{
    int64_t within_ms;

    if (notify->fd < 0)
        return -1;
    pthread_mutex_lock(&notify->lock);
    within_ms = notify->unsent[0] ? RETRY_MS : LOOK_MS;
    pthread_mutex_unlock(&notify->lock);
    if (notify->watchdog_us > 0)
        within_ms = at_most(within_ms, notify->watchdog_us / 2000);
    return within_ms < SOONEST_MS ? SOONEST_MS : (int)within_ms;
}
