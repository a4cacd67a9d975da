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
    EVENTS_PER_LOOK = 32,
    LOOKS_IN_A_ROW = 32,         /* of the gate's thread */
    NAP_MS = 2,                  /* how long workers have, before the gate's thread looks itself */
    LOOK_MAX_BYTES = 256 * 1024, /* read in one look; who was to be read then is put off */
    ACCEPTS_PER_LOOK = 64,
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
static const uint64_t tag_nudge = UINT64_MAX - 1;

static const char too_slow[] = "{\"error\":{\"code\":\"request_timeout\","
                               "\"message\":\"the request took too long to arrive\"}}";

/*
 *   FREE                  -> WAITING     admit
 *   WAITING or LINGERING  -> BUSY        claim
 *   BUSY                  -> WAITING     wait_again
 *   BUSY, WAITING (408)   -> LINGERING   start_linger
 *   any                   -> FREE        release
 *
 * In BUSY the connection is that thread's alone which has made it so, be it one that looks or a worker
 * that it was given to. In all other states it is whoever's that has the lock.
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
    bool noticed;        /* epoll has told of something since it is BUSY */
    bool late;           /* its deadline passed while it was BUSY */
    size_t lingered;     /* whoever's that has it */
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
    int epoll_fd;
    int nudge_fd; /* in epoll: whoever waits there is to return */
    int wake_fd;  /* the gate's thread is to see what there is to do */
    pthread_t thread;
    bool thread_runs;
    atomic_size_t bodies; /* bytes of bodies that are in memory, or announced */
    atomic_uint looks;    /* how often somebody has */
    atomic_int lookers;   /* that wait for something to come */
    atomic_bool dozes;    /* the gate's thread trusts in them */

    pthread_mutex_t lock;
    pthread_cond_t emptied; /* while draining: used fell to 0, or door_shut was set */
    struct slot *slots;
    struct slot *free; /* guarded by lock, from here on */
    uint32_t fresh;    /* the first of those that never were in use */
    struct list waits[WAIT_KINDS];
    int used;
    int listen_fd;
    bool accepting; /* it is in epoll */
    int64_t accept_pause_ends_ms;
    int64_t may_complain_ms;
    bool stopping;
    bool draining;
    bool door_shut; /* what begin_drain does is done */
    bool drain_is_cut;
    int64_t sleeps_until_ms;
    int64_t remind_ms; /* opts.reminded is due then; INT64_MAX: it isn't */

    bool drain_begun; /* gate's thread only, from here on */
    int64_t drain_cut_ms;
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

static void add_one(int event_fd)
{
    const uint64_t one = 1;
    ssize_t n = write(event_fd, &one, sizeof(one));

    (void)n; /* EAGAIN: that is plenty */
}

static void wake_by(struct gate *g, int64_t deadline_ms)
{
    if (deadline_ms >= g->sleeps_until_ms)
        return;
    g->sleeps_until_ms = deadline_ms;
    add_one(g->wake_fd);
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
    wake_by(g, s->deadline_ms); /* one that lingers; or the first connection of all */
}

/* --- one connection: the lock is held --------------------------------------------------------- */

static uint64_t tag_of(const struct slot *s)
{
    return (uint64_t)s->generation << 32 | s->number;
}

static void watch(struct gate *g, struct slot *s, int op, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.u64 = tag_of(s)};

    epoll_ctl(g->epoll_fd, op, s->conn.fd, &event);
    s->armed = events != 0;
}

static void give_up_budget(struct gate *g, struct gate_conn *conn)
{
    atomic_fetch_sub(&g->bodies, conn->reserved);
    conn->reserved = 0;
    conn->over_budget = false;
}

static bool bodies_have_room(struct gate *g)
{
    return atomic_load(&g->bodies) <= g->opts.body_budget_bytes;
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
    buf_release(&s->conn.carry);
    give_up_budget(g, &s->conn);
    if (shutdown(s->conn.fd, SHUT_WR) < 0) {
        release(g, s);
        return;
    }
    s->state = STATE_LINGERING;
    s->late = false;
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

/* Over TLS there is somebody to say it to when something of the request was there: the handshake is done. */
static void say_too_slow(struct gate *g, struct slot *s)
{
    char text[512], date[CLOCK_HTTP_MAX];
    int len;

    clock_format_http(clock_wall_ms(), date);
    len = snprintf(text, sizeof(text),
                   "HTTP/1.1 408 Request Timeout\r\n"
                   "Date: %s\r\n"
                   "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n"
                   "Connection: close\r\n"
                   "Cache-Control: no-store\r\n"
                   "X-Content-Type-Options: nosniff\r\n\r\n%s",
                   date, sizeof(too_slow) - 1, too_slow);

    if ((!g->opts.tls || s->conn.carry.len > 0) && g->opts.write(&s->conn, text, (size_t)len) > 0) {
        if (g->opts.statuses)
            metric_count_status(g->opts.statuses, 408);
        start_linger(g, s);
    } else {
        release(g, s);
    }
}

/* A request that has begun keeps its deadline, however often it is looked at. */
static void wait_again(struct gate *g, struct slot *s, bool begun)
{
    enum wait wait = begun ? WAIT_REQUEST : WAIT_IDLE;

    if (s->late && begun && !g->drain_is_cut) {
        say_too_slow(g, s);
        return;
    }
    if (s->late || (begun ? g->drain_is_cut : g->draining)) {
        release(g, s);
        return;
    }
    s->state = STATE_WAITING;
    if (s->wait != wait)
        link_wait(g, s, wait);
    /* Arming anew reports what is there already, too. It need not be done when nothing was: the next
     * byte is an edge then. What OpenSSL has read no socket tells of. */
    if (!s->armed || s->noticed || !s->conn.is_drained || s->conn.tls)
        watch(g, s, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
}

/* Those that wait longest for the rest of a body make room, until bodies have enough. One whose rest is there
 * already doesn't wait. */
static void end_slowest_bodies(struct gate *g)
{
    struct slot *next;

    for (struct slot *s = g->waits[WAIT_REQUEST].head; s && !bodies_have_room(g); s = next) {
        next = s->next;
        if (s->state == STATE_WAITING && s->conn.reserved > 0 && !has_unread(s))
            say_too_slow(g, s);
    }
}

/* --- whoever has the connection ---------------------------------------------------------------- */

/* Room for what the headers announce, before it comes. Returns false when there is none. */
static bool reserve_budget(struct gate *g, struct gate_conn *conn)
{
    size_t len = conn->frame.body_len;

    if (len == conn->reserved)
        return true;
    conn->reserved = len;
    atomic_fetch_add(&g->bodies, len);
    if (!bodies_have_room(g)) {
        pthread_mutex_lock(&g->lock);
        end_slowest_bodies(g);
        pthread_mutex_unlock(&g->lock);
        conn->over_budget = !bodies_have_room(g);
    }
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
        if (!room && conn->frame.header_len > 0) {
            conn->over_budget = true; /* no memory: answered as if there were no room */
            return GATE_FILL_READY;
        }
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

/* --- whoever looks ----------------------------------------------------------------------------- */

/* A connection that something has come for, while it is found out what. */
struct claim {
    struct slot *slot;
    bool lingers;
    bool is_last;   /* the client has sent all that it will */
    bool had_begun; /* some of the request was here before */
    bool is_put_off;
    enum gate_fill fill;
};

/* False when there is nothing to be looked at, or whoever has it will. The lock is held. */
static bool claim(struct gate *g, uint64_t tag, bool is_last, struct claim *out)
{
    struct slot *s = &g->slots[(uint32_t)tag];

    if (s->state == STATE_FREE || s->generation != (uint32_t)(tag >> 32))
        return false;
    if (s->state == STATE_BUSY) {
        if (s->noticed && s->armed) /* once is enough: don't tell us about every packet */
            watch(g, s, EPOLL_CTL_MOD, 0);
        s->noticed = true;
        return false;
    }
    *out = (struct claim){
        .slot = s,
        .lingers = s->state == STATE_LINGERING,
        .is_last = is_last,
        .had_begun = s->conn.carry.len > 0,
    };
    s->state = STATE_BUSY;
    s->noticed = false;
    return true;
}

static enum gate_fill throw_away(struct slot *s)
{
    char rubbish[16 * 1024];
    ssize_t n;

    do {
        n = recv(s->conn.fd, rubbish, sizeof(rubbish), MSG_DONTWAIT);
        if (n > 0)
            s->lingered += (size_t)n;
    } while (n > 0 && s->lingered < LINGER_MAX_BYTES);
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? GATE_FILL_PARTIAL : GATE_FILL_GONE;
}

static void look_at(struct gate *g, struct claim *c)
{
    struct slot *s = c->slot;

    if (c->lingers)
        c->fill = throw_away(s);
    else
        c->fill = g->opts.tls ? GATE_FILL_READY : gate_fill(g, &s->conn);
    if (c->is_last)
        s->conn.is_drained = false; /* behind the request stands its end, of which epoll has told */
}

static void linger_on(struct gate *g, struct slot *s)
{
    if (s->late) {
        release(g, s);
        return;
    }
    s->state = STATE_LINGERING;
    if (!s->armed || s->noticed)
        watch(g, s, EPOLL_CTL_MOD, EPOLLIN);
}

/* It is looked at the next time, and isn't too late because it wasn't now. */
static void put_off(struct gate *g, struct slot *s, bool had_begun)
{
    if (s->late)
        link_wait(g, s, had_begun ? WAIT_REQUEST : WAIT_IDLE);
    s->late = false;
    s->state = STATE_WAITING;
    watch(g, s, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP); /* tells of it again */
}

/* True when there is something for a worker, who then has it. The lock is held. */
static bool settle(struct gate *g, const struct claim *c)
{
    struct slot *s = c->slot;
    bool has_begun = s->conn.carry.len > 0;

    if (c->is_put_off && !g->drain_is_cut) {
        put_off(g, s, c->had_begun);
    } else if (c->fill == GATE_FILL_GONE) {
        release(g, s);
    } else if (c->lingers) {
        linger_on(g, s);
    } else if (c->fill == GATE_FILL_READY) {
        /* Over TLS only the worker can tell whether the request is whole: it calls gate_whole then. */
        if (!g->opts.tls) {
            unlink_wait(g, s);
            s->late = false;
        }
        return true;
    } else if (s->late && c->had_begun) {
        say_too_slow(g, s);
    } else {
        s->late = s->late && !has_begun; /* it was the idling that has taken too long */
        wait_again(g, s, has_begun);
    }
    return false;
}

/* --- the door ---------------------------------------------------------------------------------- */

/* Closes the connection that waits longest, but not spare. The lock is held. */
static bool make_room(struct gate *g, const struct slot *spare)
{
    static const enum wait order[] = {WAIT_LINGER, WAIT_IDLE, WAIT_REQUEST};

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        /* Those that somebody has can't be taken: a few at most. */
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
    bool may_complain;

    pthread_mutex_lock(&g->lock);
    if (g->accepting)
        epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->listen_fd, NULL);
    g->accepting = false;
    g->accept_pause_ends_ms = now + ACCEPT_PAUSE_MS;
    wake_by(g, g->accept_pause_ends_ms);
    may_complain = now >= g->may_complain_ms;
    if (may_complain)
        g->may_complain_ms = now + COMPLAIN_EVERY_MS;
    pthread_mutex_unlock(&g->lock);
    if (may_complain)
        log_warn("cannot accept connections for a moment", log_str("why", why));
}

/* The lock is held. */
static void resume_accepting(struct gate *g, int64_t now)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag_listener};

    if (g->accepting || g->listen_fd < 0 || now < g->accept_pause_ends_ms)
        return;
    g->accepting = epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->listen_fd, &event) == 0;
    if (!g->accepting) /* or the gate's thread would try without end */
        g->accept_pause_ends_ms = now + ACCEPT_PAUSE_MS;
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
    s->conn.is_greeted = false;
    s->state = STATE_WAITING;
    s->late = s->noticed = false;
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

    *out_nobody = g->listen_fd < 0; /* another one has shut the door */
    if (*out_nobody)
        return NULL;
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

    for (int i = 0; i < ACCEPTS_PER_LOOK && !nobody && !trouble; i++) {
        pthread_mutex_lock(&g->lock);
        trouble = accept_one(g, &nobody);
        pthread_mutex_unlock(&g->lock);
    }
    if (trouble)
        pause_accepting(g, trouble);
}

/* --- looking ----------------------------------------------------------------------------------- */

/* What epoll tells, in one go. */
struct news {
    struct claim claims[EVENTS_PER_LOOK];
    int count;
    bool at_door, nudged;
    bool puts_off; /* some of them */
};

/* The lock is held. */
static void read_news(struct gate *g, const struct epoll_event *events, int n, struct news *out)
{
    out->count = 0;
    out->at_door = out->nudged = false;
    for (int i = 0; i < n; i++) {
        uint64_t tag = events[i].data.u64;

        if (tag == tag_listener)
            out->at_door = true;
        else if (tag == tag_nudge)
            out->nudged = true;
        else if (claim(g, tag, (events[i].events & EPOLLRDHUP) != 0, &out->claims[out->count]))
            out->count++;
    }
}

/* One after the other, but nobody waits until many large bodies have been read. */
static void look_at_all(struct gate *g, struct news *news)
{
    size_t read_bytes = 0;

    news->puts_off = false;
    for (int i = 0; i < news->count; i++) {
        struct claim *c = &news->claims[i];
        size_t had_bytes = c->slot->conn.carry.len;

        c->is_put_off = read_bytes >= LOOK_MAX_BYTES && !c->lingers;
        if (!c->is_put_off) {
            look_at(g, c);
            read_bytes += c->slot->conn.carry.len - had_bytes;
        } else {
            c->fill = GATE_FILL_PARTIAL;
            news->puts_off = true;
        }
    }
}

/* Those that are for a worker, in order. */
static struct gate_conn *look_into(struct gate *g, struct news *news)
{
    struct gate_conn *first = NULL, **end = &first;

    look_at_all(g, news);
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < news->count; i++) {
        if (settle(g, &news->claims[i])) {
            *end = &news->claims[i].slot->conn;
            end = &(*end)->next;
        }
    }
    *end = NULL;
    pthread_mutex_unlock(&g->lock);
    return first;
}

/* The last one that waited has something to do now: the gate's thread is to have an eye on what comes. */
static void rouse(struct gate *g)
{
    if (atomic_load(&g->dozes) && atomic_exchange(&g->dozes, false))
        add_one(g->wake_fd);
}

static int wait_for_events(struct gate *g, struct epoll_event *events)
{
    int n;

    atomic_fetch_add(&g->lookers, 1);
    n = epoll_wait(g->epoll_fd, events, EVENTS_PER_LOOK, -1);
    if (atomic_fetch_sub(&g->lookers, 1) == 1)
        rouse(g);
    return n;
}

struct gate_conn *gate_look(struct gate *gate, bool may_wait, bool *out_more)
{
    struct epoll_event events[EVENTS_PER_LOOK];
    struct gate_conn *first;
    struct news news;
    int n = may_wait ? wait_for_events(gate, events)
                     : epoll_wait(gate->epoll_fd, events, EVENTS_PER_LOOK, 0);

    *out_more = n == EVENTS_PER_LOOK;
    atomic_fetch_add(&gate->looks, 1);
    if (n <= 0)
        return NULL;
    pthread_mutex_lock(&gate->lock);
    read_news(gate, events, n, &news);
    pthread_mutex_unlock(&gate->lock);
    first = look_into(gate, &news);
    *out_more = *out_more || news.puts_off;
    if (news.at_door)
        accept_some(gate);
    if (news.nudged && !may_wait) /* it wasn't meant for us */
        gate->opts.nudged(gate->opts.arg);
    return first;
}

void gate_nudge(struct gate *gate)
{
    add_one(gate->nudge_fd);
}

static void give_out(struct gate *g, struct gate_conn *conn)
{
    struct gate_conn *next;

    for (; conn; conn = next) {
        next = conn->next;
        g->opts.ready(g->opts.arg, conn);
    }
}

/* --- the gate's thread ------------------------------------------------------------------------- */

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

/* Those that idle and have asked, only nobody has looked yet. Returns how many. */
static int claim_unread(struct gate *g, struct news *out)
{
    out->count = 0;
    pthread_mutex_lock(&g->lock);
    for (struct slot *s = g->waits[WAIT_IDLE].head; s && out->count < EVENTS_PER_LOOK; s = s->next)
        if (s->state == STATE_WAITING && has_unread(s) &&
            claim(g, tag_of(s), false, &out->claims[out->count]))
            out->count++;
    pthread_mutex_unlock(&g->lock);
    return out->count;
}

static void shut_door(struct gate *g)
{
    accept_some(g);
    pthread_mutex_lock(&g->lock);
    if (g->accepting)
        epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->listen_fd, NULL);
    g->accepting = false;
    close(g->listen_fd);
    g->listen_fd = -1;
    pthread_mutex_unlock(&g->lock);
}

/* Last call: who is at the door comes in, who has asked is served, who idles goes. */
static void begin_drain(struct gate *g)
{
    struct slot *next;
    struct news news;

    g->drain_begun = true;
    g->drain_cut_ms = clock_mono_ms() + DRAIN_GRACE_MS;
    shut_door(g);
    while (claim_unread(g, &news) > 0)
        give_out(g, look_into(g, &news));
    pthread_mutex_lock(&g->lock);
    for (struct slot *s = g->waits[WAIT_IDLE].head; s; s = next) {
        next = s->next;
        if (s->state == STATE_WAITING) /* else somebody is just looking, and lets it go */
            release(g, s);
    }
    g->door_shut = true;
    pthread_cond_broadcast(&g->emptied);
    pthread_mutex_unlock(&g->lock);
}

static bool is_to_drain(struct gate *g)
{
    bool is;

    pthread_mutex_lock(&g->lock);
    is = g->draining && !g->drain_begun;
    pthread_mutex_unlock(&g->lock);
    return is;
}

/* The lock is held. */
static void cut_drain(struct gate *g)
{
    for (uint32_t i = 0; i < g->fresh; i++) {
        struct slot *s = &g->slots[i];

        if (s->state == STATE_WAITING || s->state == STATE_LINGERING) {
            release(g, s);
        } else if (s->state == STATE_BUSY && s->wait == WAIT_LINGER) {
            unlink_wait(g, s);
            s->late = true;
        }
    }
    g->drain_is_cut = true;
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
    if (!g->accepting && g->listen_fd >= 0 && g->accept_pause_ends_ms < until)
        until = g->accept_pause_ends_ms;
    if (g->drain_begun && g->drain_cut_ms < until)
        until = g->drain_cut_ms;
    if (g->remind_ms < until)
        until = g->remind_ms;
    g->sleeps_until_ms = until;
    if (until == INT64_MAX)
        return -1;
    return until <= now ? 0 : until - now > 60 * 1000 ? 60 * 1000 : (int)(until - now);
}

/* What is due by now. False: it is over. */
static bool keep_time(struct gate *g, int *out_sleep_ms)
{
    int64_t now = clock_mono_ms();
    bool goes_on, is_reminded;

    pthread_mutex_lock(&g->lock);
    goes_on = !g->stopping;
    is_reminded = now >= g->remind_ms;
    if (is_reminded)
        g->remind_ms = INT64_MAX;
    resume_accepting(g, now);
    expire(g, now);
    if (g->drain_begun && now >= g->drain_cut_ms)
        cut_drain(g);
    *out_sleep_ms = time_to_sleep(g, now);
    pthread_mutex_unlock(&g->lock);
    if (is_reminded)
        g->opts.reminded(g->opts.arg);
    return goes_on;
}

static void sleep_for(struct gate *g, int sleep_ms)
{
    struct pollfd wake = {.fd = g->wake_fd, .events = POLLIN};
    uint64_t count;

    if (poll(&wake, 1, sleep_ms) > 0)
        (void)!read(g->wake_fd, &count, sizeof(count));
}

/* While one waits for what comes, it is enough to keep the time. */
static void doze(struct gate *g, int sleep_ms)
{
    atomic_store(&g->dozes, true);
    if (atomic_load(&g->lookers) > 0) /* else it has gone just now, and hasn't seen that we doze */
        sleep_for(g, sleep_ms);
    atomic_store(&g->dozes, false);
}

/* All are busy. When they are so for long, somebody has to look in their place. */
static void stand_in(struct gate *g, int sleep_ms)
{
    unsigned looks = atomic_load(&g->looks);
    bool more;

    sleep_for(g, sleep_ms >= 0 && sleep_ms < NAP_MS ? sleep_ms : NAP_MS);
    more = atomic_load(&g->looks) == looks && atomic_load(&g->lookers) == 0;
    for (int i = 0; more && i < LOOKS_IN_A_ROW; i++) /* then there is the time to be kept */
        give_out(g, gate_look(g, false, &more));
}

static void *gate_main(void *arg)
{
    struct gate *g = arg;
    int sleep_ms;

    while (keep_time(g, &sleep_ms)) {
        if (is_to_drain(g))
            begin_drain(g);
        else if (atomic_load(&g->lookers) > 0)
            doze(g, sleep_ms);
        else
            stand_in(g, sleep_ms);
    }
    return NULL;
}

/* --- main ------------------------------------------------------------------------------------- */

static int open_descriptors(struct gate *g, struct err *err)
{
    /* One nudge, one that returns: nobody reads what is in there. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = tag_nudge};

    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    g->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->epoll_fd < 0 || g->nudge_fd < 0 || g->wake_fd < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->nudge_fd, &event) < 0)
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
    g->listen_fd = g->epoll_fd = g->nudge_fd = g->wake_fd = -1;
    g->remind_ms = INT64_MAX;
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

void gate_remind(struct gate *gate, int64_t at_ms)
{
    pthread_mutex_lock(&gate->lock);
    gate->remind_ms = at_ms;
    wake_by(gate, at_ms);
    pthread_mutex_unlock(&gate->lock);
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
    add_one(gate->wake_fd);
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
    add_one(gate->wake_fd);
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
    if (gate->nudge_fd >= 0)
        close(gate->nudge_fd);
    if (gate->wake_fd >= 0)
        close(gate->wake_fd);
    pthread_cond_destroy(&gate->emptied);
    pthread_mutex_destroy(&gate->lock);
    free(gate->slots);
    free(gate);
}
