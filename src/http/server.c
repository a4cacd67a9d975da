/* SPDX-License-Identifier: MIT */
#include "http/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/civetweb_unit.h"
#include "http/crew.h"
#include "http/frame.h"
#include "http/gate.h"
#include "http/listen.h"
#include "http/rules.h"

#include <assert.h>
#include <civetweb.h>
#include <errno.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    STAY_MS = 4,  /* how long a worker waits for the next request of its connection */
    STALL_MS = 5, /* how long those that run may keep all others waiting, before one more runs */
    PATIENCE_MS = 500, /* how long an answer may take to send while others are short of workers */
    TAKES_NOTHING_MS = 1500,   /* for so long: cut off while others' answers have no room */
    WAIT_SLICE_MS = 50,        /* how often it is looked whether they are */
    ONE_WRITE_MAX = 64 * 1024, /* header and body up to this are sent in one piece */
    HEADERS_MAX_BYTES = 16 * 1024,
    LARGE_MIN_BYTES = 256 * 1024, /* answers above this are counted in the budget */
    PATH_SHOWN_MAX = 200,
    CROWDED_MS = 1000,     /* for so long after one had no room */
    QUIET_MS = 1000,       /* after the last large answer */
    START_AGAIN_MS = 1000, /* after a worker that could not be started */
    LEFTOVERS_MIN_BYTES = 32 * 1024 * 1024,
};

struct http_server {
    struct http_server_opts opts;
    char address[HTTP_ADDRESS_MAX];
    struct gate *gate;
    struct mg_context *civetweb;
    int listen_fd; /* until the gate has it */
    int wake_fd;   /* wakes civetweb's master thread, so that it sees that it should stop */
    struct crew crew;
    bool has_crew;
    int64_t start_again_ms;            /* monotonic: no worker could be started; the crew's lock */
    atomic_bool is_stayed;             /* a worker waits for one connection alone */
    struct thread_wait_hook wait_hook; /* of the workers, for the crew */

    atomic_size_t answers;   /* bytes of large answers that are being sent */
    atomic_size_t leftovers; /* bytes of large answers since malloc last gave back what lies free */
    _Atomic int64_t
        crowded_until_ms; /* there was no room for another one: who doesn't read is cut off */

    atomic_bool draining;
    struct metric_statuses statuses;
};

/*
 * What the worker does, one connection after the other, without civetweb's noticing: to it they are
 * one. conn is set while the worker has one; fate, once it is known, is what the gate is told when it
 * gets it back.
 */
static _Thread_local struct worker {
    struct gate_conn *conn;
    struct http_later *later; /* conn's, to be begun when civetweb is done with the request */
    bool has_fate;
    enum gate_fate fate;
    const struct gate_conn *last; /* the one that was answered before; only to be compared */
    bool runs;                    /* it is counted in the crew */
    int64_t date_s;               /* whose text date is */
    char date[CLOCK_HTTP_MAX];
    struct buf out;
} worker;

static void set_fate(enum gate_fate fate)
{
    worker.fate = fate;
    worker.has_fate = true;
}

static struct http_server *server_of(const struct mg_connection *conn)
{
    struct http_server *server = mg_get_user_data(mg_get_context(conn));

    assert(server);
    return server;
}

/* --- waiting for a client --------------------------------------------------------------------- */

struct patience {
    struct http_server *server;
    int64_t deadline_ms;
    int64_t waited_ms;
    int64_t idle_ms; /* waited since the client last took something */
    int queued;      /* bytes that the system had of it, at the last look */
};

static struct patience patience_for(struct http_server *server)
{
    return (struct patience){
        .server = server,
        .deadline_ms = clock_mono_ms() + server->opts.request_timeout_ms,
    };
}

/*
 * The system says that there is room only when a third of a buffer of megabytes is free; one that is slow takes
 * something long before that. But of that we hear in steps, too, since a full receive buffer tells of room only
 * when enough of it is free: of some 100 to 200 KB, more than a second apart at 100 KiB/s.
 */
static void look_at_progress(struct patience *p, int fd)
{
    int queued = 0;

    if (ioctl(fd, SIOCOUTQ, &queued) < 0 || queued == p->queued)
        return;
    p->queued = queued;
    p->idle_ms = 0;
}

/* False when the client has had its time: all of it, or what a slow one gets while too few workers are left for
 * others, or one that takes nothing while there is no room for others' answers. */
static bool wait_for_client(struct patience *p, int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};

    for (;;) {
        int64_t now = clock_mono_ms();
        bool others = crew_is_short(&p->server->crew) || atomic_load(&p->server->draining);
        bool crowded = now < atomic_load(&p->server->crowded_until_ms);
        int64_t left = p->deadline_ms - now, waited;
        int n;

        if (left <= 0 || (others && p->waited_ms >= PATIENCE_MS) ||
            (crowded && p->idle_ms >= TAKES_NOTHING_MS))
            return false;
        crew_wait_begin(&p->server->crew);
        n = poll(&pollfd, 1, left < WAIT_SLICE_MS ? (int)left : WAIT_SLICE_MS);
        crew_wait_end(&p->server->crew);
        waited = clock_mono_ms() - now;
        p->waited_ms += waited;
        p->idle_ms += waited;
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
        look_at_progress(p, fd);
    }
}

static bool write_all(struct patience *p, const char *bytes, size_t len)
{
    while (len > 0) {
        short events = POLLOUT;
        ssize_t n = cw_write(worker.conn->fd, worker.conn->tls, bytes, len, &events);

        if (n < 0 || (n == 0 && !wait_for_client(p, worker.conn->fd, events)))
            return false;
        if (n > 0)
            p->idle_ms = 0;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void put_status(struct buf *out, int status)
{
    buf_puts(out, "HTTP/1.1 ");
    buf_put_u64(out, (uint64_t)status);
    buf_putc(out, ' ');
    /* NULL: civetweb shall not complain of statuses that it doesn't know. */
    buf_puts(out, mg_get_response_code_text(NULL, status));
    buf_puts(out, "\r\n");
}

static void put_body_headers(struct buf *out, const struct http_response *r)
{
    const char *type = http_response_type(r);

    if (!http_status_has_body(r->status))
        return;
    if (type) {
        buf_puts(out, "Content-Type: ");
        buf_puts(out, type);
        buf_puts(out, "\r\n");
    }
    buf_puts(out, "Content-Length: ");
    buf_put_u64(out, r->body.len);
    buf_puts(out, "\r\n");
}

static void put_connection(struct buf *out, int keep_s)
{
    buf_puts(out, keep_s > 0 ? "Connection: keep-alive\r\nKeep-Alive: timeout="
                             : "Connection: keep-alive");
    if (keep_s > 0)
        buf_put_u64(out, (uint64_t)keep_s);
    buf_puts(out, "\r\n");
}

static void put_date(struct buf *out)
{
    int64_t now_ms = clock_wall_ms();

    if (now_ms / 1000 != worker.date_s) {
        worker.date_s = now_ms / 1000;
        clock_format_http(now_ms, worker.date);
    }
    buf_puts(out, "Date: ");
    buf_puts(out, worker.date);
    buf_puts(out, "\r\n");
}

/* Of every answer: no printf. */
static void put_head(struct buf *out, const struct http_server *server,
                     const struct http_response *r, bool keep)
{
    put_status(out, r->status);
    if (!http_response_has_header(r, "Date"))
        put_date(out);
    put_body_headers(out, r);
    if (keep)
        put_connection(out, server->opts.idle_timeout_ms / 1000);
    else
        buf_puts(out, "Connection: close\r\n");
    if (!http_response_has_header(r, "Cache-Control"))
        buf_puts(out, "Cache-Control: no-store\r\n");
    if (!http_response_has_header(r, "X-Content-Type-Options"))
        buf_puts(out, "X-Content-Type-Options: nosniff\r\n");
    buf_put(out, buf_text(&r->headers), r->headers.len);
    buf_puts(out, "\r\n");
}

/* Returns false when the client didn't take it. */
static bool send_response(struct http_server *server, const struct http_response *r, bool is_head,
                          bool keep)
{
    bool has_body = !is_head && http_status_has_body(r->status);
    struct patience patience = patience_for(server);
    struct buf *out = &worker.out;

    buf_reset(out);
    put_head(out, server, r, keep);
    metric_count_status(&server->statuses, r->status);
    if (has_body && r->body.len <= ONE_WRITE_MAX) {
        buf_put(out, buf_text(&r->body), r->body.len);
        has_body = false;
    }
    return buf_ok(out) && write_all(&patience, out->data, out->len) &&
           (!has_body || write_all(&patience, r->body.data, r->body.len));
}

static struct http_response new_response(void)
{
    return (struct http_response){
        .status = 200,
        .body = BUF_INIT(HTTP_RESPONSE_MAX_BYTES),
        .headers = BUF_INIT(HEADERS_MAX_BYTES),
    };
}

static void release_response(struct http_response *response)
{
    buf_release(&response->body);
    buf_release(&response->headers);
}

/* Send what was answered, and decide what becomes of the connection unless it just goes on. */
static void answer(struct http_server *server, struct http_response *response, bool is_head,
                   bool may_keep)
{
    bool keep = may_keep && !atomic_load(&server->draining);

    if (!buf_ok(&response->body) || !buf_ok(&response->headers)) {
        buf_reset(&response->headers);
        http_response_error(response, 500, "internal", "the answer is too large");
    }
    if (!send_response(server, response, is_head, keep))
        set_fate(GATE_DROP);
    else if (!keep)
        set_fate(GATE_CLOSE);
}

static bool is_head(const struct mg_connection *conn)
{
    const char *method = mg_get_request_info(conn)->request_method;

    return method && strcmp(method, "HEAD") == 0;
}

/* Of a request that couldn't be read: what stands where its path should be. */
static void peek_path(char out[HTTP_PEEKED_PATH_MAX])
{
    const char *text = buf_text(&worker.conn->carry);
    const char *path = text + strcspn(text, " \r\n");
    size_t len;

    path += *path == ' ';
    len = strcspn(path, "? \r\n");
    snprintf(out, HTTP_PEEKED_PATH_MAX, "%.*s",
             len < HTTP_PEEKED_PATH_MAX ? (int)len : HTTP_PEEKED_PATH_MAX - 1, path);
}

static void tell_of_refusal(struct http_server *server, const struct http_request *request,
                            const struct http_refusal *refusal, struct http_response *response)
{
    char path[HTTP_PEEKED_PATH_MAX];
    struct http_request unread = {.method = "", .path = path, .body = ""};

    if (!server->opts.refusing)
        return;
    unread.remote_addr = worker.conn->peer;
    if (!request)
        peek_path(path);
    server->opts.refusing(server->opts.arg, request ? request : &unread, refusal, response);
}

static void put_refusal(struct http_response *response, const struct http_refusal *refusal)
{
    if (refusal->status == 503)
        http_response_unavailable(response, refusal->code, refusal->message);
    else
        http_response_error(response, refusal->status, refusal->code, refusal->message);
}

/* Answer a request that isn't to be served, and be done with the connection. The request: NULL when it
 * wasn't understood. */
static void refuse(struct mg_connection *conn, const struct http_request *request,
                   const struct http_refusal *refusal)
{
    struct http_server *server = server_of(conn);
    struct http_response response = new_response();

    put_refusal(&response, refusal);
    tell_of_refusal(server, request, refusal, &response);
    gate_consume(server->gate, worker.conn); /* whoever waits for room gets it */
    set_fate(send_response(server, &response, is_head(conn), false) ? GATE_LINGER : GATE_DROP);
    cw_must_close(conn);
    release_response(&response);
}

/* --- one request ------------------------------------------------------------------------------ */

static void describe(struct http_request *request, const struct mg_request_info *ri,
                     struct http_header headers[HTTP_HEADERS_MAX])
{
    size_t count = ri->num_headers > 0 ? (size_t)ri->num_headers : 0;

    for (size_t i = 0; i < count; i++)
        headers[i] = (struct http_header){ri->http_headers[i].name, ri->http_headers[i].value};
    *request = (struct http_request){
        .method = ri->request_method,
        .path = ri->request_uri,
        .query = ri->query_string,
        .headers = headers,
        .header_count = count,
        .body = "",
        .remote_addr = worker.conn->peer,
    };
}

/* Its answer will come from elsewhere: see http_answer. What is needed for that then. */
static void keep_for_later(struct http_server *server, struct http_later *later, bool head_only,
                           bool may_keep, char behind)
{
    later->server = server;
    later->conn = worker.conn;
    later->waiter = NULL;
    later->is_head = head_only;
    later->may_keep = may_keep;
    later->behind = behind;
    worker.later = later;
}

/* The client sends the body when it has this; it waits for it in the gate. HTTP/1.0 knows no 100. */
static void send_continue(struct mg_connection *conn)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct patience patience = patience_for(server_of(conn));
    bool is_1_1 = strcmp(mg_get_request_info(conn)->http_version, "1.1") == 0;

    worker.conn->frame.continued = true;
    if (is_1_1 && !write_all(&patience, text, sizeof(text) - 1))
        set_fate(GATE_DROP);
    else
        set_fate(GATE_MORE);
}

static bool changes_nothing(const struct http_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

static void complain_of_answer(const struct http_server *server, const struct http_request *request,
                               size_t bytes)
{
    static struct log_limit limit;

    if (log_may(&limit))
        log_warn("no room for a large answer: too many are being sent",
                 log_str("method", request->method),
                 log_bytes("path", request->path, strnlen(request->path, PATH_SHOWN_MAX)),
                 log_int("bytes", (int64_t)bytes),
                 log_int("of_all", (int64_t)server->opts.answer_budget_bytes));
}

static bool take_from_budget(struct http_server *server, size_t bytes)
{
    size_t taken = atomic_load(&server->answers);

    do {
        if (taken > server->opts.answer_budget_bytes ||
            bytes > server->opts.answer_budget_bytes - taken)
            return false;
    } while (!atomic_compare_exchange_weak(&server->answers, &taken, taken + bytes));
    return true;
}

/*
 * Room for a large answer until it is sent; returns the bytes for release_answer. Where there is none an
 * error goes in its place, and who has taken nothing of theirs for a while makes room: the next one may find
 * it. What has changed something isn't to be tried again, so it isn't called busy.
 */
static size_t reserve_answer(struct http_server *server, const struct http_request *request,
                             struct http_response *response)
{
    size_t bytes = response->body.len;
    const struct http_refusal *refusal;

    if (bytes <= LARGE_MIN_BYTES ||
        strcmp(request->method, "HEAD") == 0) /* nothing of it is sent */
        return 0;
    atomic_fetch_add(&server->leftovers, bytes);
    if (take_from_budget(server, bytes))
        return bytes;
    atomic_store(&server->crowded_until_ms, clock_mono_ms() + CROWDED_MS);
    complain_of_answer(server, request, bytes);
    refusal = changes_nothing(request) ? &http_busy : &http_answer_lost;
    buf_release(&response->body);
    response->body = BUF_INIT(HTTP_RESPONSE_MAX_BYTES);
    buf_reset(&response->headers);
    put_refusal(response, refusal);
    tell_of_refusal(server, request, refusal, response);
    return 0;
}

/* After the answer is freed. */
static void release_answer(struct http_server *server, size_t bytes)
{
    if (bytes > 0 && atomic_fetch_sub(&server->answers, bytes) == bytes)
        gate_remind(server->gate, clock_mono_ms() + QUIET_MS);
}

/* gate_opts.reminded: no large answer has come to its end for a while. Many leave much memory behind that malloc
 * would keep; while they come one after the other they use it again. */
static void on_reminded(void *arg)
{
    struct http_server *server = arg;

    if (atomic_load(&server->answers) > 0 || atomic_load(&server->leftovers) < LEFTOVERS_MIN_BYTES)
        return;
    atomic_store(&server->leftovers, 0);
    malloc_trim(0);
}

/* The body stands in carry, perhaps with the next request behind it. */
static void serve(struct mg_connection *conn, struct http_request *request, size_t len)
{
    struct http_server *server = server_of(conn);
    struct http_response response = new_response();
    char *body = worker.conn->carry.data + worker.conn->frame.header_len;
    bool may_keep = cw_may_keep_alive(conn) && !http_asks_to_close(request);
    char behind = body[len];
    size_t reserved = 0;

    body[len] = '\0';
    request->body = body;
    request->body_len = len;
    server->opts.handle(server->opts.arg, request, &response);
    if (response.later) {
        keep_for_later(server, response.later, is_head(conn), may_keep, behind);
    } else {
        reserved = reserve_answer(server, request, &response);
        answer(server, &response, is_head(conn), may_keep);
        body[len] = behind;
    }
    release_response(&response);
    release_answer(server, reserved);
}

static const struct http_refusal *check_request(const struct mg_connection *conn,
                                                const struct http_request *request)
{
    const struct gate_conn *c = worker.conn;
    bool is_1_1 = strcmp(mg_get_request_info(conn)->http_version, "1.1") == 0;
    size_t body_len = 0;
    const struct http_refusal *refusal =
        http_check_request(request, is_1_1, server_of(conn)->opts.max_body_bytes, &body_len);

    if (refusal == &http_headers_large)
        return refusal;
    if (!cw_is_strict(conn, c->carry.data))
        return &http_bad_syntax;
    if (!refusal && c->over_budget)
        return &http_busy;
    /* Two readings of the same headers that differ: then a third one may, too. */
    if (!refusal && (c->frame.is_odd || c->frame.body_len != body_len))
        return &http_bad_syntax;
    return refusal;
}

/* callbacks.begin_request: civetweb has parsed the headers, and decided nothing yet. */
static int on_request(struct mg_connection *conn)
{
    const struct gate_conn *c = worker.conn;
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_request request;
    const struct http_refusal *refusal;

    describe(&request, mg_get_request_info(conn), headers);
    refusal = check_request(conn, &request);
    if (refusal)
        refuse(conn, &request, refusal);
    else if (c->carry.len < http_frame_size(&c->frame))
        send_continue(conn);
    else
        serve(conn, &request, c->frame.body_len);
    cw_body_is_read(conn);
    if (worker.has_fate)
        cw_must_close(conn);
    return 200; /* served: civetweb does nothing more with it */
}

/* callbacks.http_error: civetweb couldn't make a request of what it has read. */
static int on_civetweb_error(struct mg_connection *conn, int status, const char *message)
{
    const struct mg_request_info *ri = mg_get_request_info(conn);
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_request request;
    const struct http_refusal *refusal = NULL;
    size_t body_len;

    (void)message;
    if (!worker.conn || worker.has_fate)
        return 0; /* cw_begin_nothing */
    if (cw_is_overfull(conn))
        refusal = &http_headers_large;
    else if (status == 505)
        refusal = &http_bad_version;
    else if (cw_is_method_unknown(conn) && http_is_token(ri->request_method))
        refusal = &http_unknown_method;
    else if (ri->num_headers > 0 && ri->request_method && cw_was_asked(conn)) {
        describe(&request, ri, headers);
        refusal =
            http_check_headers(&request, false, server_of(conn)->opts.max_body_bytes, &body_len);
    }
    refuse(conn, NULL, refusal ? refusal : &http_bad_syntax);
    return 0;
}

/* --- after the request ------------------------------------------------------------------------ */

static bool is_readable(struct http_server *server, int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    bool is_there;

    crew_wait_begin(&server->crew);
    is_there = poll(&pollfd, 1, timeout_ms) > 0;
    crew_wait_end(&server->crew);
    return is_there;
}

/* When one client alone sends one request after the other, it is cheaper to wait for its next one than to
 * look for what everybody sends. Is it there? */
static bool stay(struct http_server *server)
{
    bool was_last = worker.conn == worker.last, is_there = false;

    worker.last = worker.conn;
    if (was_last && crew_is_quiet(&server->crew) && !atomic_exchange(&server->is_stayed, true)) {
        is_there = is_readable(server, worker.conn->fd, STAY_MS);
        atomic_store(&server->is_stayed, false);
    }
    return is_there;
}

/*
 * The answer is out: what becomes of the connection? True when its next request is here already, and
 * it isn't another's turn. One that is alone is waited for, for a moment.
 */
static bool goes_on(struct http_server *server)
{
    struct gate_conn *c = worker.conn;
    enum gate_fill fill = GATE_FILL_PARTIAL;

    gate_consume(server->gate, c);
    /* What OpenSSL has read already makes no socket readable: there one has to try. */
    if (c->carry.len > 0 || c->tls || stay(server))
        fill = gate_fill(server->gate, c);
    switch (fill) {
    case GATE_FILL_READY:
        if (crew_goes_on(&server->crew))
            return true;
        set_fate(GATE_AGAIN);
        break;
    case GATE_FILL_PARTIAL:
        set_fate(c->carry.len > 0 ? GATE_MORE : GATE_PARK);
        break;
    case GATE_FILL_GONE:
        set_fate(GATE_DROP);
        break;
    }
    return false;
}

static void give_back(struct http_server *server)
{
    struct gate_conn *c = worker.conn;

    if (c->carry.len == 0)
        buf_release(&c->carry); /* one that idles shall cost little */
    worker.conn = NULL;
    worker.has_fate = false;
    gate_give_back(server->gate, c, worker.fate);
}

/* Send what was answered elsewhere. The connection is the worker's, as after any request. */
static void answer_later(struct http_server *server, struct http_later *later)
{
    struct http_response response = new_response();
    struct gate_conn *c = later->conn;
    bool head_only = later->is_head, may_keep = later->may_keep;
    char behind = later->behind;

    worker.conn = c;
    worker.has_fate = false;
    later->finish(later, &response); /* later is gone from here on */
    c->carry.data[http_frame_size(&c->frame)] = behind;
    answer(server, &response, head_only, may_keep);
    release_response(&response);
}

/* A worker that has nothing else to do waits for the answer itself: that spares a change of threads. */
static void wait_for_answer(struct http_server *server, struct http_later *later)
{
    sem_t done;

    sem_init(&done, 0, 0);
    later->waiter = &done;
    crew_wait_begin(&server->crew); /* begin may make the answer: that counts as waiting for it */
    later->begin(later, true);
    while (sem_wait(&done) < 0)
        ; /* a signal */
    crew_wait_end(&server->crew);
    sem_destroy(&done);
    answer_later(server, later);
}

/* The answer is to come from elsewhere; from here on the connection is whoever's that gets it. */
static void begin_later(struct http_server *server)
{
    struct http_later *later = worker.later;
    bool is_quiet = crew_is_quiet(&server->crew);

    worker.later = NULL;
    crew_expect_answer(&server->crew);
    if (is_quiet) {
        wait_for_answer(server, later);
    } else {
        worker.conn = NULL;
        later->begin(later, false);
    }
}

void http_answer(struct http_later *later)
{
    struct crew *crew = &later->server->crew;

    if (later->waiter) {
        crew_forget_answer(crew);
        sem_post(later->waiter);
    } else {
        crew_add_answer(crew, later);
    }
}

/* --- from the gate to a worker, and back ------------------------------------------------------ */

/* By the request line alone: whether it is right is seen later, and doesn't matter here. */
static bool is_urgent(const struct http_server *server, const struct gate_conn *conn)
{
    const char *path = server->opts.urgent_path, *end, *target;
    size_t path_len;

    if (!path || conn->frame.header_len == 0)
        return false;
    path_len = strlen(path);
    end = conn->carry.data + conn->frame.header_len;
    target = memchr(conn->carry.data, ' ', conn->frame.header_len);
    return target && (size_t)(end - target) > path_len + 1 &&
           memcmp(target + 1, path, path_len) == 0 &&
           (target[1 + path_len] == ' ' || target[1 + path_len] == '?');
}

/* gate_opts.ready. Thread: the gate's, or a worker. */
static void on_ready(void *arg, struct gate_conn *conn)
{
    struct http_server *server = arg;

    conn->is_urgent = is_urgent(server, conn);
    crew_add_request(&server->crew, conn);
}

/* crew_opts.look */
static struct gate_conn *on_look(void *arg, bool may_wait, bool *out_more)
{
    struct http_server *server = arg;
    struct gate_conn *first = gate_look(server->gate, may_wait, out_more);

    for (struct gate_conn *conn = first; conn; conn = conn->next)
        conn->is_urgent = is_urgent(server, conn);
    return first;
}

/* gate_opts.nudged */
static void on_nudged(void *arg)
{
    struct http_server *server = arg;

    crew_nudge_again(&server->crew);
}

/* crew_opts.nudge */
static void on_nudge(void *arg)
{
    struct http_server *server = arg;

    gate_nudge(server->gate);
}

/* crew_opts.waits */
static void on_waits(void *arg)
{
    struct http_server *server = arg;

    if (server->opts.waits)
        server->opts.waits(server->opts.arg);
}

/* crew_opts.call: what goes into civetweb's queue is a place; who comes to stand in it is seen then. */
static void on_call(void *arg)
{
    struct http_server *server = arg;

    cw_queue_place(server->civetweb);
}

/* crew_opts.start */
static bool on_start(void *arg)
{
    static struct log_limit limit;
    struct http_server *server = arg;
    int64_t now_ms = clock_mono_ms();
    int rc;

    if (now_ms < server->start_again_ms)
        return false;
    rc = cw_start_worker(server->civetweb);
    if (rc)
        server->start_again_ms = now_ms + START_AGAIN_MS;
    if (rc && log_may(&limit))
        log_warn("cannot start another HTTP thread: those that there are do all the work",
                 log_int("threads", server->crew.started), log_str("error", strerror(rc)),
                 log_str("see", "TasksMax= of the service, ulimit -u, free memory"));
    return rc == 0;
}

/* gate_opts.read */
static ssize_t on_read(struct gate_conn *conn, char *out, size_t len)
{
    short events;

    return cw_read(conn->fd, conn->tls, out, len, &events);
}

/* gate_opts.write */
static ssize_t on_write(struct gate_conn *conn, const char *bytes, size_t len)
{
    short events;

    return cw_write(conn->fd, conn->tls, bytes, len, &events);
}

/* Over TLS, what the gate does by itself over plain HTTP. */
static enum gate_fill fill_by_tls(struct http_server *server, struct gate_conn *c)
{
    enum gate_fill fill;
    short events;
    int hello;

    if (!c->tls)
        c->tls = cw_tls_new(server->civetweb, c->fd);
    hello = c->tls ? cw_tls_handshake(c->tls, &events) : -1;
    if (hello <= 0)
        return hello < 0 ? GATE_FILL_GONE : GATE_FILL_PARTIAL;
    fill = gate_fill(server->gate, c);
    if (fill == GATE_FILL_READY) {
        c->is_greeted = true;
        gate_whole(server->gate, c);
    }
    return fill;
}

/* What came over TLS was no part of a request. */
static bool idles_on(struct http_server *server)
{
    const struct gate_conn *c = worker.conn;

    return c->is_greeted && c->carry.len == 0 && !cw_tls_has_part(c->tls) &&
           !atomic_load(&server->draining);
}

/* What civetweb gets to see of the request in carry. */
static size_t header_len(const struct gate_conn *c)
{
    return c->frame.header_len > 0 ? c->frame.header_len : c->carry.len;
}

/* Before civetweb gets the request in carry. */
static void take(struct mg_connection *conn)
{
    cw_take(conn, worker.conn->fd);
    http_frame_move_tails(&worker.conn->frame, worker.conn->carry.data);
}

/* Do what there is to do, until that is a request, which worker.conn then has; or false. */
static bool find_request(struct http_server *server, struct crew_work *work)
{
    enum gate_fill fill = GATE_FILL_READY;

    if (work->answer) {
        answer_later(server, work->answer);
        if (!worker.has_fate && goes_on(server))
            return true;
    } else {
        worker.conn = work->conn;
        worker.has_fate = false;
        if (server->opts.tls_ctx)
            fill = fill_by_tls(server, worker.conn);
        if (fill == GATE_FILL_READY)
            return true;
        /* What brings nothing to a connection that idles begins no request. */
        set_fate(fill == GATE_FILL_GONE ? GATE_DROP : idles_on(server) ? GATE_PARK : GATE_MORE);
    }
    give_back(server);
    return false;
}

static bool next_request(struct http_server *server)
{
    struct crew_work work;

    while ((worker.runs = crew_next(&server->crew, &work)))
        if (find_request(server, &work))
            return true;
    return false;
}

/* callbacks.init_connection: a worker has come. */
static int on_taken(const struct mg_connection *const_conn, void **conn_data)
{
    struct mg_connection *conn = (struct mg_connection *)const_conn;
    struct http_server *server = server_of(conn);
    struct crew_work work;

    *conn_data = NULL;
    worker.conn = NULL;
    worker.runs = crew_come(&server->crew, &work);
    if (worker.runs && (find_request(server, &work) || next_request(server))) {
        take(conn);
        cw_begin(conn, worker.conn->carry.data, header_len(worker.conn));
    } else {
        cw_begin_nothing(conn);
    }
    return 0;
}

/* callbacks.end_request. civetweb goes on with whatever request is next, as if it were of the same
 * connection; when there is none, or it doesn't fit behind this one, it closes what it has. */
static void on_answered(const struct mg_connection *const_conn, int status)
{
    struct mg_connection *conn = (struct mg_connection *)const_conn;
    struct http_server *server = server_of(conn);
    bool has_next = false;

    (void)status;
    if (worker.has_fate)
        return;
    if (worker.later)
        begin_later(server);
    if (worker.conn) {
        has_next = !worker.has_fate && goes_on(server);
        if (!has_next)
            give_back(server);
    }
    /* Where this client wants no further request, civetweb ends what it takes for the connection. */
    if (!cw_may_keep_alive(conn) || (!has_next && !next_request(server))) {
        cw_must_close(conn);
        return;
    }
    take(conn);
    if (!cw_continue(conn, worker.conn->carry.data, header_len(worker.conn))) {
        set_fate(GATE_AGAIN);
        cw_must_close(conn);
    }
}

/* callbacks.connection_close: the worker goes, perhaps to be called again at once. */
static void on_done(const struct mg_connection *const_conn)
{
    struct mg_connection *conn = (struct mg_connection *)const_conn;
    struct http_server *server = server_of(conn);

    if (worker.conn && !worker.has_fate) {
        /* "OPTIONS *", or the URL of another server: civetweb would close without a word. */
        if (cw_was_asked(conn) && !mg_get_request_info(conn)->local_uri)
            refuse(conn, NULL, &http_bad_target);
        else
            set_fate(GATE_DROP);
    }
    cw_let_go(conn);
    if (worker.conn)
        give_back(server);
    if (worker.runs)
        crew_go(&server->crew);
    worker.runs = false;
}

/* --- start and stop --------------------------------------------------------------------------- */

static int start_gate(struct http_server *server, struct err *err)
{
    const struct gate_opts opts = {
        .tls = server->opts.tls_ctx != NULL,
        .max_connections = server->opts.max_connections,
        .max_body_bytes = server->opts.max_body_bytes,
        .body_budget_bytes = server->opts.body_budget_bytes,
        .request_timeout_ms = server->opts.request_timeout_ms,
        .idle_timeout_ms = server->opts.idle_timeout_ms,
        .ready = on_ready,
        .nudged = on_nudged,
        .reminded = on_reminded,
        .read = on_read,
        .write = on_write,
        .free_tls = cw_tls_free,
        .arg = server,
        .statuses = &server->statuses,
    };
    int rc = gate_new(&server->gate, &opts, err);

    if (rc < 0)
        return rc;
    rc = gate_start(server->gate, server->listen_fd, err);
    if (rc < 0)
        return rc;
    server->listen_fd = -1; /* the gate's now */
    return crew_open(&server->crew, err);
}

static void on_thread_exit(const struct mg_context *ctx, int type, void *pointer)
{
    (void)ctx;
    (void)type;
    (void)pointer;
    buf_release(&worker.out);
}

static void *on_thread_start(const struct mg_context *ctx, int type)
{
    const int is_worker = 1;

    if (type == is_worker) {
        struct http_server *server = mg_get_user_data(ctx);

        thread_set_wait_hook(&server->wait_hook);
        worker.out = BUF_INIT(HEADERS_MAX_BYTES + ONE_WRITE_MAX + 4096);
    }
    return NULL;
}

static int on_log(const struct mg_connection *conn, const char *message)
{
    (void)conn;
    log_debug("civetweb", log_str("text", message));
    return 1;
}

static int on_tls(void **ssl_ctx, void *arg)
{
    struct http_server *server = arg;

    *ssl_ctx = server->opts.tls_ctx;
    return 1; /* ours: civetweb neither sets it up nor frees it */
}

static void on_context(const struct mg_context *ctx)
{
    struct http_server *server = mg_get_user_data(ctx);

    server->civetweb = (struct mg_context *)ctx;
    cw_replace_listener(server->civetweb, dup(server->wake_fd));
}

static void init_civetweb(void)
{
    mg_init_library(MG_FEATURES_TLS);
}

static int start_civetweb(struct http_server *server, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const struct mg_callbacks callbacks = {
        .begin_request = on_request,
        .end_request = on_answered,
        .log_message = on_log,
        .external_ssl_ctx = on_tls,
        .connection_close = on_done,
        .http_error = on_civetweb_error,
        .init_context = on_context,
        .init_thread = on_thread_start,
        .exit_thread = on_thread_exit,
        .init_connection = on_taken,
    };
    char threads[16];
    char queue[16];
    char header_block[16];
    /* clang-format off */
    const char *options[] = {
        /* Not where we listen (civetweb_unit.c): it only says whether there is TLS. */
        "listening_ports", server->opts.tls_ctx ? "127.0.0.1:0s" : "127.0.0.1:0",
        "num_threads", threads,
        "connection_queue", queue, /* never full: there are no more calls than workers (crew.h) */
        "max_request_size", header_block,
        "enable_keep_alive", "yes",
        /* civetweb never reads, except where our own reading of a request should be mistaken:
         * then for this long. */
        "request_timeout_ms", "500",
        "keep_alive_timeout_ms", "500",
        "decode_url", "no",
        "enable_auth_domain_check", "no",
        "access_control_allow_origin", "",
        NULL,
    };
    /* clang-format on */
    char text[256];
    struct mg_error_data error = {.text = text, .text_buffer_size = sizeof(text)};
    struct mg_init_data init = {
        .callbacks = &callbacks,
        .user_data = server,
        .configuration_options = options,
    };

    snprintf(threads, sizeof(threads), "%d", server->opts.threads);
    snprintf(queue, sizeof(queue), "%d", server->opts.threads + 1);
    snprintf(header_block, sizeof(header_block), "%d", HTTP_HEADER_BLOCK_MAX);
    pthread_once(&once, init_civetweb);
    if (mg_start2(&init, &error)) { /* on_context has it already */
        if (cw_has_started(server->civetweb))
            return 0;
        snprintf(text, sizeof(text), "its main thread can't be started");
    }
    server->civetweb = NULL;
    return err_set(err, ERR_IO, "cannot start the HTTP threads: %s", text);
}

static void stop_civetweb(struct http_server *server)
{
    const uint64_t one = 1;

    if (!server->civetweb)
        return;
    crew_close(&server->crew);
    (void)!write(server->wake_fd, &one, sizeof(one));
    mg_stop(server->civetweb);
}

static void on_wait_begin(void *arg)
{
    crew_wait_begin(arg);
}

static void on_wait_end(void *arg)
{
    crew_wait_end(arg);
}

static int start_crew(struct http_server *server, struct err *err)
{
    /* At least two: while one waits for something, there is always another that looks. */
    int usual = thread_processors() < 2 ? 2 : thread_processors();
    const struct crew_opts opts = {
        .usual = usual < server->opts.threads ? usual : server->opts.threads,
        .most = server->opts.threads,
        .stall_ms = STALL_MS,
        .call = on_call,
        .start = on_start,
        .look = on_look,
        .nudge = on_nudge,
        .waits = on_waits,
        .arg = server,
    };

    server->has_crew = true;
    server->wait_hook =
        (struct thread_wait_hook){.begin = on_wait_begin, .end = on_wait_end, .arg = &server->crew};
    return crew_start(&server->crew, &opts, err);
}

int http_server_start(struct http_server **out, const struct http_server_opts *opts,
                      struct err *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server)
        return err_set(err, ERR_NOMEM, "no memory for an HTTP server");
    server->opts = *opts;
    server->opts.address = NULL; /* the one in use is server->address */
    server->listen_fd = server->wake_fd = -1;
    rc = start_crew(server, err);
    if (rc < 0)
        goto out;
    rc = http_listen(opts->address, &server->listen_fd, server->address, err);
    if (rc < 0)
        goto out;
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake_fd < 0) {
        rc = err_errno(err, ERR_IO, "cannot make an eventfd");
        goto out;
    }
    rc = start_civetweb(server, err);
    if (rc < 0)
        goto out;
    rc = start_gate(server, err);
    if (rc < 0)
        goto out;
    *out = server;
    server = NULL;
out:
    http_server_free(server);
    return rc;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

const struct metric_statuses *http_server_statuses(const struct http_server *server)
{
    return &server->statuses;
}

int http_server_connections(struct http_server *server)
{
    return gate_connections(server->gate);
}

int http_server_drain(struct http_server *server, int drain_ms)
{
    atomic_store(&server->draining, true);
    return gate_drain(server->gate, drain_ms);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    if (server->gate)
        gate_stop(server->gate);
    stop_civetweb(server);
    gate_free(server->gate);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    if (server->wake_fd >= 0)
        close(server->wake_fd);
    if (server->has_crew)
        crew_stop(&server->crew);
    free(server);
}
