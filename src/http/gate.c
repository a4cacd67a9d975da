/* SPDX-License-Identifier: MIT */
#include "http/gate.h"

#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_PER_WAIT = 256,
    ACCEPTS_PER_WAKE = 64,
    ACCEPT_PAUSE_MS = 50,
    LINGER_MS = 2000,
    LINGER_MAX_BYTES = 16 * 1024 * 1024,
    DRAIN_GRACE_MS = 250,
    COMPLAIN_EVERY_MS = 60 * 1000,
    READ_STEP = 4 * 1024,        /* while the length of a request isn't known */
    READ_MAX_BYTES = 256 * 1024, /* of one body, at a time */
};

/* What epoll tells us an event is about, where a slot's generation and number would be. */
static const uint64_t tag_listener = UINT64_MAX;
static const uint64_t tag_wake = UINT64_MAX - 1;

static const char too_slow[] = "{\"error\":{\"code\":\"request_timeout\","
                               "\"message\":\"the request took too long to arrive\"}}";

/*
 *   FREE      -> WAITING     admit
 *   WAITING   -> BUSY        hand_over
 *   BUSY      -> WAITING     wait_again
 *   BUSY      -> LINGERING   start_linger
 *   WAITING   -> LINGERING   start_linger         (408)
 *   any       -> FREE        release
 *
 * Only the gate's thread takes a slot out of WAITING or LINGERING, so it may look at the connection
 * of such a slot without the lock. In BUSY the slot's conn is the worker's.
 */
enum state { STATE_FREE, STATE_WAITING, STATE_BUSY, STATE_LINGERING };

enum wait { WAIT_IDLE, WAIT_REQUEST, WAIT_LINGER, WAIT_KINDS, WAIT_NONE = WAIT_KINDS };

struct slot {
    struct gate_conn conn; /* first: a struct gate_conn * is a struct slot * */
    struct slot *prev;     /* guarded by lock, like everything below but lingered */
    struct slot *next;     /* also links the free slots */
    int64_t deadline_ms;
    enum wait wait;
    enum state state;
    uint32_t number;
    uint32_t generation; /* tells an event of this connection from one of its predecessor's */
    bool armed;          /* epoll reports readability */
    bool late;           /* its deadline passed while a worker had it */
    size_t lingered;     /* gate's thread only */
};

union peer {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct list {
    struct slot *head;
    struct slot *tail;
};

struct gate {
    struct gate_opts opts;
    int listen_fd;
    int epoll_fd;
    int wake_fd;
    pthread_t thread;
    bool thread_runs;
    atomic_size_t bodies; /* bytes of bodies that are in memory, or announced */

    pthread_mutex_t lock;
    pthread_cond_t emptied; /* while draining: used fell to 0, or door_shut was set */
    struct slot *slots;
    struct slot *free; /* guarded by lock, down to sleeps_until_ms */
    uint32_t fresh;    /* the first of those that never were in use */
    struct list waits[WAIT_KINDS];
    int used;
    bool draining;
    bool door_shut; /* what begin_drain does is done */
    bool stopping;
    int64_t sleeps_until_ms;

    bool drain_begun; /* gate's thread only, from here on */
    int64_t drain_cut_ms;
    bool accepting;
    int64_t accept_pause_ends_ms;
    int64_t may_complain_ms;
    char rubbish[32 * 1024]; /* where what nobody wants is read to */
};

/* --- lists: the lock is held ------------------------------------------------------------------ */

static void unlink_wait(struct gate *g, struct slot *s)
{
    struct list *list;

    if (s->wait == WAIT_NONE)
        return;
    list = &g->waits[s->wait];
    *(s->prev ? &s->prev->next : &list->head) = s->next;
    *(s->next ? &s->next->prev : &list->tail) = s->prev;
    s->prev = s->next = NULL;
    s->wait = WAIT_NONE;
}

static void wake(struct gate *g)
{
    const uint64_t one = 1;
    ssize_t n = write(g->wake_fd, &one, sizeof(one));

    (void)n; /* EAGAIN: it is awake enough */
}

static int wait_length_ms(const struct gate *g, enum wait wait)
{
    switch (wait) {
    case WAIT_IDLE:
        return g->opts.idle_timeout_ms;
    case WAIT_REQUEST:
        return g->opts.request_timeout_ms;
    default:
        return g->draining ? DRAIN_GRACE_MS : LINGER_MS;
    }
}

static void link_wait(struct gate *g, struct slot *s, enum wait wait)
{
    struct list *list = &g->waits[wait];

    unlink_wait(g, s);
    s->wait = wait;
    s->deadline_ms = clock_mono_ms() + wait_length_ms(g, wait);
    s->prev = list->tail;
    *(list->tail ? &list->tail->next : &list->head) = s;
    list->tail = s;
    if (s->deadline_ms < g->sleeps_until_ms) { /* one that lingers; or the first connection of all */
        g->sleeps_until_ms = s->deadline_ms;
        wake(g);
    }
}

/* --- one connection: the lock is held --------------------------------------------------------- */

static void watch(struct gate *g, struct slot *s, int op, uint32_t events)
{
    struct epoll_event event = {
        .events = events | EPOLLET,
        .data.u64 = (uint64_t)s->generation << 32 | s->number,
    };

    epoll_ctl(g->epoll_fd, op, s->conn.fd, &event);
    s->armed = events != 0;
}

static void give_up_budget(struct gate *g, struct gate_conn *conn)
{
    atomic_fetch_sub(&g->bodies, conn->reserved);
    conn->reserved = 0;
    conn->over_budget = false;
}

static void release(struct gate *g, struct slot *s)
{
    unlink_wait(g, s);
    if (s->conn.tls)
        g->opts.free_tls(s->conn.tls);
    s->conn.tls = NULL;
    buf_release(&s->conn.carry);
    give_up_budget(g, &s->conn);
    close(s->conn.fd);
    s->conn.fd = -1;
    s->state = STATE_FREE;
    s->generation++;
    s->next = g->free;
    g->free = s;
    g->used--;
    if (g->draining && g->used == 0)
        pthread_cond_broadcast(&g->emptied);
}

static void start_linger(struct gate *g, struct slot *s)
{
    if (s->conn.tls)
        g->opts.free_tls(s->conn.tls); /* says good-bye first */
    s->conn.tls = NULL;
    if (shutdown(s->conn.fd, SHUT_WR) < 0) {
        release(g, s);
        return;
    }
    s->state = STATE_LINGERING;
    s->lingered = 0;
    link_wait(g, s, WAIT_LINGER);
    watch(g, s, EPOLL_CTL_MOD, EPOLLIN);
}

static bool has_unread(const struct slot *s)
{
    int unread = 0;

    return ioctl(s->conn.fd, FIONREAD, &unread) == 0 && unread > 0;
}

/* Closing with unread bytes in the queue would send a RST, which can overtake our answer. */
static void close_politely(struct gate *g, struct slot *s)
{
    if (has_unread(s))
        start_linger(g, s);
    else
        release(g, s);
}

/* A request that has begun keeps its deadline, however often a worker looks at it. */
static void wait_again(struct gate *g, struct slot *s, bool begun)
{
    if (begun ? s->late : g->draining) {
        release(g, s);
        return;
    }
    s->state = STATE_WAITING;
    if (!begun)
        link_wait(g, s, WAIT_IDLE);
    else if (s->wait != WAIT_REQUEST)
        link_wait(g, s, WAIT_REQUEST);
    /* Arming anew reports what is there already, too. It need not be done when nothing was: the next
     * byte is an edge then. What OpenSSL has read no socket tells of. */
    if (!s->armed || !s->conn.is_drained || s->conn.tls)
        watch(g, s, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
}

/* --- whoever has the connection ---------------------------------------------------------------- */

/* Room for what the headers announce, before it comes. Returns false when there is none. */
static bool reserve_budget(struct gate *g, struct gate_conn *conn)
{
    size_t len = conn->frame.body_len;

    if (len == conn->reserved)
        return true;
    conn->reserved = len;
    conn->over_budget = atomic_fetch_add(&g->bodies, len) + len > g->opts.body_budget_bytes;
    return !conn->over_budget;
}

/* How much to ask for: all that is missing, once that is known. */
static size_t next_step(const struct gate_conn *conn)
{
    size_t size = http_frame_size(&conn->frame);

    if (conn->frame.header_len == 0 || size <= conn->carry.len)
        return READ_STEP;
    return size - conn->carry.len < READ_MAX_BYTES ? size - conn->carry.len : READ_MAX_BYTES;
}

enum gate_fill gate_fill(struct gate *gate, struct gate_conn *conn)
{
    struct buf *carry = &conn->carry;

    for (;;) {
        size_t step;
        char *room;
        ssize_t n;

        if (carry->len > 0) {
            bool ready = http_frame_is_ready(&conn->frame, carry->data, carry->len,
                                             gate->opts.max_body_bytes);

            if (!reserve_budget(gate, conn) || ready)
                return GATE_FILL_READY;
        }
        step = next_step(conn);
        room = buf_reserve(carry, step);
        n = room ? gate->opts.read(conn, room, step) : -1;
        conn->is_drained = n < (ssize_t)step;
        if (n <= 0)
            return n < 0 ? GATE_FILL_GONE : GATE_FILL_PARTIAL;
        buf_added(carry, (size_t)n);
    }
}

void gate_consume(struct gate *gate, struct gate_conn *conn)
{
    struct buf *carry = &conn->carry;
    size_t size = http_frame_size(&conn->frame);

    if (size < carry->len) {
        memmove(carry->data, carry->data + size, carry->len - size);
        carry->len -= size;
        carry->data[carry->len] = '\0';
    } else {
        buf_reset(carry);
    }
    conn->frame = (struct http_frame){0};
    give_up_budget(gate, conn);
}

/* --- workers ---------------------------------------------------------------------------------- */

void gate_whole(struct gate *gate, struct gate_conn *conn)
{
    struct slot *s = (struct slot *)conn;

    pthread_mutex_lock(&gate->lock);
    unlink_wait(gate, s);
    s->late = false;
    pthread_mutex_unlock(&gate->lock);
}

void gate_give_back(struct gate *gate, struct gate_conn *conn, enum gate_fate fate)
{
    struct slot *s = (struct slot *)conn;

    if (fate == GATE_AGAIN) {
        gate->opts.ready(gate->opts.arg, conn);
        return;
    }
    pthread_mutex_lock(&gate->lock);
    switch (fate) {
    case GATE_PARK:
    case GATE_MORE:
        wait_again(gate, s, fate == GATE_MORE);
        break;
    case GATE_LINGER:
        start_linger(gate, s);
        break;
    case GATE_CLOSE:
        close_politely(gate, s);
        break;
    default:
        release(gate, s);
    }
    pthread_mutex_unlock(&gate->lock);
}

/* --- the gate's thread ------------------------------------------------------------------------ */

static void hand_over(struct gate *g, struct slot *s)
{
    pthread_mutex_lock(&g->lock);
    /* Over TLS only the worker can tell whether the request is whole: it calls gate_whole then. */
    if (!g->opts.tls)
        unlink_wait(g, s);
    s->state = STATE_BUSY;
    pthread_mutex_unlock(&g->lock);
    g->opts.ready(g->opts.arg, &s->conn);
}

/* is_last: the client has sent all that it will. */
static void look_at(struct gate *g, struct slot *s, bool is_last)
{
    enum gate_fill fill = g->opts.tls ? GATE_FILL_READY : gate_fill(g, &s->conn);

    if (is_last)
        s->conn.is_drained = false; /* behind the request stands its end, of which epoll has told */
    if (fill == GATE_FILL_PARTIAL && s->conn.carry.len == 0)
        return; /* nothing has come after all */
    pthread_mutex_lock(&g->lock);
    if (fill == GATE_FILL_GONE)
        release(g, s);
    else if (s->wait != WAIT_REQUEST)
        link_wait(g, s, WAIT_REQUEST);
    pthread_mutex_unlock(&g->lock);
    if (fill == GATE_FILL_READY)
        hand_over(g, s);
}

static void throw_away(struct gate *g, struct slot *s)
{
    ssize_t n;

    do {
        n = recv(s->conn.fd, g->rubbish, sizeof(g->rubbish), MSG_DONTWAIT);
        if (n > 0)
            s->lingered += (size_t)n;
    } while (n > 0 && s->lingered < LINGER_MAX_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    pthread_mutex_lock(&g->lock);
    release(g, s);
    pthread_mutex_unlock(&g->lock);
}

static void serve_event(struct gate *g, const struct epoll_event *event)
{
    struct slot *s = &g->slots[(uint32_t)event->data.u64];
    enum state state;

    pthread_mutex_lock(&g->lock);
    state = s->generation == (uint32_t)(event->data.u64 >> 32) ? s->state : STATE_FREE;
    /* A worker has it and reads on by itself: don't tell us about every packet. */
    if (state == STATE_BUSY && s->armed)
        watch(g, s, EPOLL_CTL_MOD, 0);
    pthread_mutex_unlock(&g->lock);

    if (state == STATE_WAITING)
        look_at(g, s, (event->events & EPOLLRDHUP) != 0);
    else if (state == STATE_LINGERING)
        throw_away(g, s);
}

/* Closes the connection that waits longest, but not spare. The lock is held. */
static bool make_room(struct gate *g, const struct slot *spare)
{
    static const enum wait order[] = {WAIT_LINGER, WAIT_IDLE, WAIT_REQUEST};

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        /* Those of the request list that are with a worker can't be taken: a few at most. */
        for (struct slot *s = g->waits[order[i]].head; s; s = s->next) {
            if (s->state == STATE_BUSY || s == spare)
                continue;
            /* It has asked, only we haven't looked yet. */
            if (order[i] == WAIT_IDLE && has_unread(s))
                continue;
            release(g, s);
            return true;
        }
    }
    return false;
}

static void pause_accepting(struct gate *g, const char *why)
{
    int64_t now = clock_mono_ms();

    epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->listen_fd, NULL);
    g->accepting = false;
    g->accept_pause_ends_ms = now + ACCEPT_PAUSE_MS;
    if (now >= g->may_complain_ms) {
        g->may_complain_ms = now + COMPLAIN_EVERY_MS;
        log_warn("cannot accept connections for a moment", log_str("why", why));
    }
}

static void resume_accepting(struct gate *g)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag_listener};

    if (g->accepting || g->drain_begun || clock_mono_ms() < g->accept_pause_ends_ms)
        return;
    if (epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->listen_fd, &event) == 0)
        g->accepting = true;
}

/* A client of a dual-stack socket is shown by the address it knows itself by. */
static void write_peer(const union peer *peer, char out[INET6_ADDRSTRLEN])
{
    const struct in6_addr *v6 = &peer->v6.sin6_addr;

    if (peer->any.sa_family != AF_INET6)
        inet_ntop(AF_INET, &peer->v4.sin_addr, out, INET6_ADDRSTRLEN);
    else if (IN6_IS_ADDR_V4MAPPED(v6))
        inet_ntop(AF_INET, &v6->s6_addr[12], out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, v6, out, INET6_ADDRSTRLEN);
}

static bool has_free_slot(const struct gate *g)
{
    return g->free || g->fresh <= (uint32_t)g->opts.max_connections;
}

/* One that was used before, while there is one: memory of those that never were stays untouched. */
static struct slot *take_slot(struct gate *g)
{
    struct slot *s = g->free;

    if (s) {
        g->free = s->next;
    } else {
        s = &g->slots[g->fresh];
        s->number = g->fresh++;
        s->wait = WAIT_NONE;
    }
    s->next = NULL;
    return s;
}

/* Returns false when no more should be accepted for now. The lock is held. */
static bool admit(struct gate *g, int fd, const union peer *peer)
{
    const int on = 1;
    struct slot *s = take_slot(g);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    s->conn.fd = fd;
    write_peer(peer, s->conn.peer);
    s->conn.carry = BUF_INIT(HTTP_HEADER_BLOCK_MAX + g->opts.max_body_bytes + 2 * READ_STEP);
    s->conn.frame = (struct http_frame){0};
    s->state = STATE_WAITING;
    s->late = false;
    g->used++;
    link_wait(g, s, WAIT_IDLE);
    watch(g, s, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
    return g->used <= g->opts.max_connections || make_room(g, s);
}

/* Take in one that is at the door. Returns what is in the way, or NULL. The lock is held. */
static const char *accept_one(struct gate *g, bool *out_nobody)
{
    static const char all_served[] = "every connection is being served";
    union peer peer = {0};
    socklen_t len = sizeof(peer);
    int fd;

    *out_nobody = false;
    if (!has_free_slot(g)) { /* the one above max_connections is still there */
        struct pollfd door = {.fd = g->listen_fd, .events = POLLIN};

        *out_nobody = poll(&door, 1, 0) <= 0;
        if (*out_nobody)
            return NULL;
        if (!make_room(g, NULL))
            return all_served;
    }
    fd = accept4(g->listen_fd, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        return admit(g, fd, &peer) ? NULL : all_served;
    switch (errno) {
    case EAGAIN:
        *out_nobody = true;
        return NULL;
    case EMFILE:
    case ENFILE:
        return make_room(g, NULL) ? NULL : "there are no more file descriptors";
    case ENOBUFS:
    case ENOMEM:
        return make_room(g, NULL) ? NULL : "there is no memory";
    default:
        return NULL; /* it has gone again already */
    }
}

static void accept_some(struct gate *g)
{
    const char *trouble = NULL;
    bool nobody = false;

    for (int i = 0; i < ACCEPTS_PER_WAKE && !nobody && !trouble; i++) {
        pthread_mutex_lock(&g->lock);
        trouble = accept_one(g, &nobody);
        pthread_mutex_unlock(&g->lock);
    }
    if (trouble)
        pause_accepting(g, trouble);
}

static void say_too_slow(struct gate *g, struct slot *s)
{
    char text[512];
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 408 Request Timeout\r\n"
                       "Content-Type: application/json\r\n"
                       "Content-Length: %zu\r\n"
                       "Connection: close\r\n"
                       "Cache-Control: no-store\r\n"
                       "X-Content-Type-Options: nosniff\r\n\r\n%s",
                       sizeof(too_slow) - 1, too_slow);

    if (!g->opts.tls && send(s->conn.fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
        if (g->opts.statuses)
            metric_count_status(g->opts.statuses, 408);
        start_linger(g, s);
    } else {
        release(g, s);
    }
}

/* The lock is held. */
static void expire(struct gate *g, int64_t now)
{
    for (int kind = 0; kind < WAIT_KINDS; kind++) {
        struct slot *s;

        while ((s = g->waits[kind].head) && s->deadline_ms <= now) {
            s->late = s->state == STATE_BUSY;
            if (s->late)
                unlink_wait(g, s);
            else if (kind == WAIT_REQUEST)
                say_too_slow(g, s);
            else
                release(g, s);
        }
    }
}

/* Last call: who is at the door comes in, who has asked is served, who idles goes. */
static void begin_drain(struct gate *g)
{
    struct slot *next;

    g->drain_begun = true;
    g->drain_cut_ms = clock_mono_ms() + DRAIN_GRACE_MS;
    accept_some(g);
    if (g->accepting)
        epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->listen_fd, NULL);
    g->accepting = false;
    close(g->listen_fd);
    g->listen_fd = -1;

    pthread_mutex_lock(&g->lock);
    next = g->waits[WAIT_IDLE].head;
    pthread_mutex_unlock(&g->lock);
    /* Workers only add to the list's end, and since draining is set, not even that. */
    for (struct slot *s = next; s; s = next) {
        next = s->next;
        if (!g->opts.tls || has_unread(s))
            look_at(g, s, false);
    }
    pthread_mutex_lock(&g->lock);
    while (g->waits[WAIT_IDLE].head)
        release(g, g->waits[WAIT_IDLE].head);
    g->door_shut = true;
    pthread_cond_broadcast(&g->emptied);
    pthread_mutex_unlock(&g->lock);
}

static void cut_drain(struct gate *g)
{
    for (uint32_t i = 0; i < g->fresh; i++)
        if (g->slots[i].state == STATE_WAITING || g->slots[i].state == STATE_LINGERING)
            release(g, &g->slots[i]);
    g->drain_cut_ms = INT64_MAX;
}

/* Milliseconds until the next deadline, or until the first that a connection which a worker gives back at
 * once could have: so no worker need wake us for it. The lock is held. */
static int time_to_sleep(struct gate *g, int64_t now)
{
    int64_t until = INT64_MAX;

    for (int kind = WAIT_IDLE; g->used > 0 && kind <= WAIT_REQUEST; kind++)
        if (now + wait_length_ms(g, kind) < until)
            until = now + wait_length_ms(g, kind);
    for (int kind = 0; kind < WAIT_KINDS; kind++)
        if (g->waits[kind].head && g->waits[kind].head->deadline_ms < until)
            until = g->waits[kind].head->deadline_ms;
    if (!g->accepting && !g->drain_begun && g->accept_pause_ends_ms < until)
        until = g->accept_pause_ends_ms;
    if (g->drain_begun && g->drain_cut_ms < until)
        until = g->drain_cut_ms;
    g->sleeps_until_ms = until;
    if (until == INT64_MAX)
        return -1;
    return until <= now ? 0 : until - now > 60 * 1000 ? 60 * 1000 : (int)(until - now);
}

static void serve_events(struct gate *g, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        uint64_t count;

        if (events[i].data.u64 == tag_wake)
            (void)!read(g->wake_fd, &count, sizeof(count));
        else if (events[i].data.u64 == tag_listener)
            accept_some(g);
        else
            serve_event(g, &events[i]);
    }
}

static void *gate_main(void *arg)
{
    struct gate *g = arg;
    struct epoll_event events[EVENTS_PER_WAIT];

    for (;;) {
        int64_t now = clock_mono_ms();
        bool begin;
        int sleep_ms;
        int n;

        resume_accepting(g);
        pthread_mutex_lock(&g->lock);
        if (g->stopping) {
            pthread_mutex_unlock(&g->lock);
            return NULL;
        }
        begin = g->draining && !g->drain_begun;
        expire(g, now);
        if (g->drain_begun && now >= g->drain_cut_ms)
            cut_drain(g);
        sleep_ms = time_to_sleep(g, now);
        pthread_mutex_unlock(&g->lock);
        if (begin) {
            begin_drain(g);
            continue;
        }
        n = epoll_wait(g->epoll_fd, events, EVENTS_PER_WAIT, sleep_ms);
        serve_events(g, events, n);
    }
}

/* --- main ------------------------------------------------------------------------------------- */

static int open_descriptors(struct gate *g, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag_wake};

    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->epoll_fd < 0 || g->wake_fd < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->wake_fd, &event) < 0)
        return err_errno(err, ERR_IO, "cannot watch connections");
    return 0;
}

int gate_new(struct gate **out, const struct gate_opts *opts, struct err *err)
{
    struct gate *g = calloc(1, sizeof(*g));
    uint32_t count = (uint32_t)opts->max_connections + 1; /* one to accept with when it is full */
    int rc;

    if (g)
        g->slots = calloc(count, sizeof(*g->slots));
    if (!g || !g->slots) {
        free(g);
        return err_set(err, ERR_NOMEM, "no memory for %d connections", opts->max_connections);
    }
    g->opts = *opts;
    g->listen_fd = g->epoll_fd = g->wake_fd = -1;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->emptied, NULL);
    rc = open_descriptors(g, err);
    if (rc < 0) {
        gate_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gate_start(struct gate *gate, int listen_fd, struct err *err)
{
    gate->listen_fd = listen_fd;
    errno = pthread_create(&gate->thread, NULL, gate_main, gate);
    if (errno != 0) {
        gate->listen_fd = -1;
        return err_errno(err, ERR_IO, "cannot start a thread");
    }
    gate->thread_runs = true;
    return 0;
}

int gate_connections(struct gate *gate)
{
    int count;

    pthread_mutex_lock(&gate->lock);
    count = gate->used;
    pthread_mutex_unlock(&gate->lock);
    return count;
}

int gate_drain(struct gate *gate, int drain_ms)
{
    int64_t deadline_ms = clock_mono_ms() + drain_ms;
    struct timespec deadline = {
        .tv_sec = deadline_ms / 1000,
        .tv_nsec = deadline_ms % 1000 * 1000000,
    };
    int rc = 0;

    pthread_mutex_lock(&gate->lock);
    gate->draining = true;
    wake(gate);
    while ((gate->used > 0 || !gate->door_shut) && rc == 0)
        rc = pthread_cond_clockwait(&gate->emptied, &gate->lock, CLOCK_MONOTONIC, &deadline);
    rc = gate->used > 0 ? ERR_BUSY : 0;
    pthread_mutex_unlock(&gate->lock);
    return rc;
}

void gate_stop(struct gate *gate)
{
    if (!gate->thread_runs)
        return;
    pthread_mutex_lock(&gate->lock);
    gate->stopping = true;
    wake(gate);
    pthread_mutex_unlock(&gate->lock);
    pthread_join(gate->thread, NULL);
    gate->thread_runs = false;
}

void gate_free(struct gate *gate)
{
    if (!gate)
        return;
    gate_stop(gate);
    for (uint32_t i = 0; i < gate->fresh; i++)
        if (gate->slots[i].state != STATE_FREE)
            release(gate, &gate->slots[i]);
    if (gate->listen_fd >= 0)
        close(gate->listen_fd);
    if (gate->epoll_fd >= 0)
        close(gate->epoll_fd);
    if (gate->wake_fd >= 0)
        close(gate->wake_fd);
    pthread_cond_destroy(&gate->emptied);
    pthread_mutex_destroy(&gate->lock);
    free(gate->slots);
    free(gate);
}
