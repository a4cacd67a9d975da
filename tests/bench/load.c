/* SPDX-License-Identifier: MIT */
/*
 * load - asks a server as much as it can answer, and measures each answer.
 *
 * So many connections, kept alive, each with one request on its way at a time: the next is made and
 * signed when the answer to the last has come. Every answer is checked: its status, and that its body
 * is what it should be (an action's signature, too). Prints one line of JSON:
 *
 *     rate                    answers a second while it was measured
 *     p50_ms p99_ms p999_ms max_ms   from the first byte sent to the last one received
 *     answers, issued         all in all; what came while it was warming up counts here alone
 *     wrong, first_wrong      answers that weren't what they should be, and the first of them
 *     closed                  connections that the server ended (they are opened anew)
 *     starved                 connections that never got an answer
 *     loader_cpu              cores that load itself was busy with: near its threads, and it is load
 *                             that is measured
 *
 * Threads    each has an epoll and a share of the connections of its own; they share two counters.
 */
#include "traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS_MAX = 8,
    REQUEST_MAX = TRAFFIC_BODY_MAX + 4096, /* a token may be long */
    ANSWER_MAX = 65536,
    WRONG_TEXT_MAX = 200,
    DRAIN_NS = 2000000000,
    TICK_MS = 20,
    HEX_CHARS = 64,
};

/* ------------------------------------------------------------------------ options */

enum kind { KIND_NEW, KIND_UPDATE, KIND_DUPLICATE, KIND_ACTION, KIND_GET, KIND_POST, KINDS };
static const char *const kind_names[KINDS] = {"new",    "update", "duplicate",
                                              "action", "get",    "post"};

static struct {
    enum kind kind;
    uint16_t port;
    unsigned connections, threads;
    double warm_s, seconds;
    uint64_t count; /* so many requests, however long it takes; 0: by time */
    uint64_t users; /* update, duplicate: of so many */
    const char *seed, *path, *token, *expect, *body;
} opts = {
    .connections = 1, .threads = 1, .warm_s = 0.5, .seconds = 3, .users = 1, .seed = "BENCH0"};

_Noreturn static void usage(void)
{
    fputs("usage: load --kind new|update|duplicate|action|get|post --port PORT [OPTION…]\n"
          "  --connections N   (1)        --threads N   (1)\n"
          "  --warm S          (0.5) not measured, before --seconds S (3)\n"
          "  --count N         so many requests instead, all of them measured\n"
          "  --seed TEXT       (BENCH0) six of 0-9A-Z: whose users they are\n"
          "  --users N         update, duplicate: of the first N users of the seed\n"
          "  --path PATH       (/workos/webhook, or /workos/action)\n"
          "  --token TEXT      get, post: sent as a bearer token\n"
          "  --body TEXT       post: what is sent\n"
          "  --expect TEXT     get, post: stands in every answer\n",
          stderr);
    exit(2);
}

static double number_of(const char *text, double min, double max)
{
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end || number < min || number > max)
        usage();
    return number;
}

static enum kind kind_of(const char *text)
{
    for (int i = 0; i < KINDS; i++)
        if (strcmp(text, kind_names[i]) == 0)
            return (enum kind)i;
    usage();
}

static void take_option(int letter, const char *value)
{
    switch (letter) {
    case 'k':
        opts.kind = kind_of(value);
        break;
    case 'p':
        opts.port = (uint16_t)number_of(value, 1, 65535);
        break;
    case 'c':
        opts.connections = (unsigned)number_of(value, 1, 60000);
        break;
    case 't':
        opts.threads = (unsigned)number_of(value, 1, THREADS_MAX);
        break;
    case 'w':
        opts.warm_s = number_of(value, 0, 3600);
        break;
    case 's':
        opts.seconds = number_of(value, 0.01, 3600);
        break;
    case 'n':
        opts.count = (uint64_t)number_of(value, 1, 1e12);
        break;
    case 'u':
        opts.users = (uint64_t)number_of(value, 1, 1e12);
        break;
    case 'S':
        opts.seed = value;
        break;
    case 'P':
        opts.path = value;
        break;
    case 'T':
        opts.token = value;
        break;
    case 'b':
        opts.body = value;
        break;
    case 'e':
        opts.expect = value;
        break;
    default:
        usage();
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"kind", 1, NULL, 'k'},    {"port", 1, NULL, 'p'},  {"connections", 1, NULL, 'c'},
        {"threads", 1, NULL, 't'}, {"warm", 1, NULL, 'w'},  {"seconds", 1, NULL, 's'},
        {"count", 1, NULL, 'n'},   {"users", 1, NULL, 'u'}, {"seed", 1, NULL, 'S'},
        {"path", 1, NULL, 'P'},    {"token", 1, NULL, 'T'}, {"body", 1, NULL, 'b'},
        {"expect", 1, NULL, 'e'},  {NULL, 0, NULL, 0},
    };
    int letter;

    while ((letter = getopt_long(argc, argv, "", known, NULL)) >= 0)
        take_option(letter, optarg);
    if (optind < argc || opts.port == 0 || strlen(opts.seed) != TRAFFIC_SEED_CHARS)
        usage();
    if (opts.threads > opts.connections)
        opts.threads = opts.connections;
    if (!opts.path)
        opts.path = opts.kind == KIND_ACTION                          ? "/workos/action"
                    : opts.kind == KIND_GET || opts.kind == KIND_POST ? "/"
                                                                      : "/workos/webhook";
    if (opts.count)
        opts.warm_s = 0;
    if (strlen(opts.path) + (opts.token ? strlen(opts.token) : 0) >
        REQUEST_MAX - TRAFFIC_BODY_MAX - 512)
        usage();
}

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ------------------------------------------------------------------------ state */

static atomic_uint_fast64_t issued; /* requests, over all threads */
static atomic_uint_fast64_t update_number;
static int64_t begin_ns, end_ns; /* answers between them are measured */
static int64_t run_number;       /* tells the updates of this run from those of others */

struct connection {
    int fd;
    bool is_open, is_waiting, was_answered;
    int64_t sent_ns;
    size_t out_len, out_at, in_len;
    char out[REQUEST_MAX];
    char in[ANSWER_MAX];
};

struct worker {
    pthread_t thread;
    int epoll;
    EVP_MAC_CTX *webhook_mac, *action_mac;
    struct connection *connections;
    unsigned count, waiting;

    uint32_t *times; /* in 100 ns */
    size_t time_count, time_room;
    uint64_t answers, measured, wrong, closed;
    int64_t last_ns; /* of the last answer measured */
    char first_wrong[WRONG_TEXT_MAX];
};

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static bool is_over(int64_t now)
{
    return opts.count ? atomic_load(&issued) >= opts.count : now >= end_ns;
}

/* ------------------------------------------------------------------------ requests */

static EVP_MAC_CTX *new_mac(const char *secret)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);

    EVP_MAC_free(mac);
    if (!ctx || !EVP_MAC_init(ctx, (const unsigned char *)secret, strlen(secret), params))
        die("OpenSSL has no HMAC");
    return ctx;
}

/* Of "<t>.<body>". A NULL key means to OpenSSL: the same key again. */
static void sign(EVP_MAC_CTX *mac, const char *t, size_t t_len, const char *body, size_t len,
                 char hex[HEX_CHARS + 1])
{
    unsigned char bytes[HEX_CHARS / 2];
    size_t bytes_len;

    if (!EVP_MAC_init(mac, NULL, 0, NULL) ||
        !EVP_MAC_update(mac, (const unsigned char *)t, t_len) ||
        !EVP_MAC_update(mac, (const unsigned char *)".", 1) ||
        !EVP_MAC_update(mac, (const unsigned char *)body, len) ||
        !EVP_MAC_final(mac, bytes, &bytes_len, sizeof(bytes)))
        die("OpenSSL can't sign");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    hex[HEX_CHARS] = '\0';
}

static size_t make_body(uint64_t n, int64_t now_ms, char out[TRAFFIC_BODY_MAX])
{
    uint64_t event;

    switch (opts.kind) {
    case KIND_NEW:
        return traffic_created(opts.seed, n, now_ms, out);
    case KIND_UPDATE:
        event = (uint64_t)run_number * 100000000 + atomic_fetch_add(&update_number, 1);
        return traffic_updated(opts.seed, traffic_scatter(n, opts.users), event, now_ms, out);
    case KIND_DUPLICATE:
        return traffic_created(opts.seed, traffic_scatter(n, opts.users), now_ms, out);
    case KIND_ACTION:
        return traffic_action(opts.seed, n, out);
    case KIND_POST:
        return (size_t)snprintf(out, TRAFFIC_BODY_MAX, "%s", opts.body ? opts.body : "{}");
    default:
        return 0;
    }
}

static void make_request(struct worker *worker, struct connection *c, uint64_t n)
{
    int64_t now_ms = now_ns(CLOCK_REALTIME) / 1000000;
    char body[TRAFFIC_BODY_MAX], hex[HEX_CHARS + 1], t[24];
    size_t len = make_body(n, now_ms, body);
    size_t t_len = (size_t)snprintf(t, sizeof(t), "%" PRId64, now_ms);
    bool is_signed = opts.kind <= KIND_ACTION;
    int head;

    head = snprintf(c->out, REQUEST_MAX, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n",
                    opts.kind == KIND_GET ? "GET" : "POST", opts.path);
    if (opts.token)
        head += snprintf(c->out + head, REQUEST_MAX - (size_t)head, "Authorization: Bearer %s\r\n",
                         opts.token);
    if (opts.kind != KIND_GET)
        head += snprintf(c->out + head, REQUEST_MAX - (size_t)head,
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n", len);
    if (is_signed) {
        sign(opts.kind == KIND_ACTION ? worker->action_mac : worker->webhook_mac, t, t_len, body,
             len, hex);
        head += snprintf(c->out + head, REQUEST_MAX - (size_t)head,
                         "WorkOS-Signature: t=%s, v1=%s\r\n", t, hex);
    }
    head += snprintf(c->out + head, REQUEST_MAX - (size_t)head, "\r\n");
    memcpy(c->out + head, body, len);
    c->out_len = (size_t)head + len;
    c->out_at = 0;
    c->in_len = 0;
}

/* ------------------------------------------------------------------------ connections */

static void watch(struct worker *worker, struct connection *c, int operation, bool writing)
{
    struct epoll_event event = {.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};

    if (epoll_ctl(worker->epoll, operation, c->fd, &event) < 0)
        die("epoll_ctl");
}

static void open_connection(struct worker *worker, struct connection *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(opts.port)};
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS)
        die("connect");
    c->is_open = true;
    c->is_waiting = false;
    watch(worker, c, EPOLL_CTL_ADD, true);
}

static void close_connection(struct worker *worker, struct connection *c)
{
    worker->waiting -= c->is_waiting;
    c->is_open = c->is_waiting = false;
    close(c->fd);
}

static void send_rest(struct worker *worker, struct connection *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = write(c->fd, c->out + c->out_at, c->out_len - c->out_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno == EAGAIN)
                watch(worker, c, EPOLL_CTL_MOD, true);
            return; /* any other error, reading meets again */
        }
        c->out_at += (size_t)n;
    }
}

/* The next request, if there is to be one. */
static void ask(struct worker *worker, struct connection *c)
{
    uint64_t n;

    if (c->is_waiting || is_over(now_ns(CLOCK_MONOTONIC)))
        return;
    n = atomic_fetch_add(&issued, 1);
    if (opts.count && n >= opts.count)
        return;
    make_request(worker, c, n);
    c->is_waiting = true;
    worker->waiting++;
    c->sent_ns = now_ns(CLOCK_MONOTONIC);
    send_rest(worker, c);
}

/* ------------------------------------------------------------------------ answers */

__attribute__((format(printf, 2, 3))) static bool complain(struct worker *worker,
                                                           const char *format, ...)
{
    va_list arguments;

    if (worker->wrong++ > 0)
        return false;
    va_start(arguments, format);
    vsnprintf(worker->first_wrong, sizeof(worker->first_wrong), format, arguments);
    va_end(arguments);
    for (char *p = worker->first_wrong; *p; p++) /* it is printed inside of JSON */
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
            *p = '\'';
    return false;
}

/* Is it signed with the secret, as it is written? */
static bool is_verdict(struct worker *worker, const char *body)
{
    const char *payload = strstr(body, "\"payload\":"), *end, *t, *signature;
    char hex[HEX_CHARS + 1];

    if (!payload || !strstr(body, "\"verdict\":\"Allow\""))
        return false;
    payload += strlen("\"payload\":");
    end = strstr(payload, ",\"signature\":\"");
    t = strstr(payload, "\"timestamp\":");
    if (!end || !t)
        return false;
    t += strlen("\"timestamp\":");
    signature = end + strlen(",\"signature\":\"");
    sign(worker->action_mac, t, strspn(t, "0123456789"), payload, (size_t)(end - payload), hex);
    return strncmp(signature, hex, HEX_CHARS) == 0;
}

static bool check_answer(struct worker *worker, int status, const char *body)
{
    if (status < 200 || status > 299)
        return complain(worker, "%d %s", status, body);
    if (opts.kind == KIND_ACTION)
        return is_verdict(worker, body) || complain(worker, "no verdict: %s", body);
    if (opts.kind < KIND_ACTION)
        return strcmp(body, "{\"received\":true}") == 0 || complain(worker, "body: %s", body);
    return !opts.expect || strstr(body, opts.expect) || complain(worker, "body: %s", body);
}

static void note_time(struct worker *worker, int64_t ns)
{
    if (worker->time_count == worker->time_room) {
        worker->time_room = worker->time_room ? worker->time_room * 2 : 65536;
        worker->times = realloc(worker->times, worker->time_room * sizeof(*worker->times));
        if (!worker->times)
            die("no memory for the times");
    }
    worker->times[worker->time_count++] = ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
}

/* The length of the answer that stands in c->in, 0 when more must come; -1: it can't be read. */
static ssize_t answer_length(struct connection *c, char **out_body)
{
    char *end, *length;

    c->in[c->in_len] = '\0';
    end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return c->in_len < ANSWER_MAX - 1 ? 0 : -1;
    *end = '\0';
    length = strcasestr(c->in, "\r\nContent-Length:");
    *end = '\r';
    if (!length || strncmp(c->in, "HTTP/1.1 ", 9) != 0)
        return -1;
    *out_body = end + 4;
    return end + 4 - c->in + (ssize_t)strtoul(length + 17, NULL, 10);
}

/* False when the connection can't be used any more. */
static bool take_answer(struct worker *worker, struct connection *c)
{
    char *body = NULL;
    ssize_t len = answer_length(c, &body);
    int64_t now = now_ns(CLOCK_MONOTONIC);

    if (len < 0 || len >= ANSWER_MAX || (len > 0 && (size_t)len < c->in_len))
        return complain(worker, "not an answer that load can read: %s", c->in);
    if (len == 0 || (size_t)len > c->in_len)
        return true;
    worker->waiting--;
    c->is_waiting = false;
    c->was_answered = true;
    worker->answers++;
    if (check_answer(worker, atoi(c->in + 9), body) && now >= begin_ns && now < end_ns) {
        worker->measured++;
        worker->last_ns = now;
        note_time(worker, now - c->sent_ns);
    }
    return true;
}

static bool receive(struct worker *worker, struct connection *c)
{
    ssize_t n = read(c->fd, c->in + c->in_len, ANSWER_MAX - 1 - c->in_len);

    if (n < 0 && errno == ECONNREFUSED)
        die("is there no server (any more)?"); /* it would be refused without end */
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    c->in_len += (size_t)n;
    if (!c->is_waiting)
        return complain(worker, "an answer to nothing");
    return take_answer(worker, c);
}

static void serve_connection(struct worker *worker, struct connection *c, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(worker, c)) {
        worker->closed++;
        close_connection(worker, c);
        if (!is_over(now_ns(CLOCK_MONOTONIC)))
            open_connection(worker, c);
        return;
    }
    if (events & EPOLLOUT) {
        watch(worker, c, EPOLL_CTL_MOD, false);
        if (c->is_waiting)
            send_rest(worker, c);
    }
    ask(worker, c);
}

/* ------------------------------------------------------------------------ the run */

/* No answer will be counted any more, but who waits for one shall not be cut off at once. */
static bool has_drained(struct worker *worker, int64_t now, int64_t *over_ns)
{
    if (!is_over(now))
        return false;
    if (!*over_ns)
        *over_ns = now;
    return worker->waiting == 0 || now > *over_ns + DRAIN_NS;
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    struct epoll_event events[256];
    int64_t over_ns = 0;

    for (unsigned i = 0; i < worker->count; i++)
        open_connection(worker, &worker->connections[i]);
    while (!has_drained(worker, now_ns(CLOCK_MONOTONIC), &over_ns)) {
        int count = epoll_wait(worker->epoll, events, 256, TICK_MS);

        for (int i = 0; i < count; i++)
            serve_connection(worker, events[i].data.ptr, events[i].events);
    }
    return NULL;
}

static void start_worker(struct worker *worker, unsigned connections)
{
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->webhook_mac = new_mac(TRAFFIC_WEBHOOK_SECRET);
    worker->action_mac = new_mac(TRAFFIC_ACTION_SECRET);
    worker->count = connections;
    worker->connections = calloc(connections, sizeof(*worker->connections));
    if (worker->epoll < 0 || !worker->connections)
        die("cannot start");
    if (pthread_create(&worker->thread, NULL, run_worker, worker) != 0)
        die("cannot start a thread");
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* All workers' in the first one, sorted. */
static void gather(struct worker *workers)
{
    struct worker *all = &workers[0];

    for (unsigned i = 1; i < opts.threads; i++) {
        for (size_t k = 0; k < workers[i].time_count; k++)
            note_time(all, (int64_t)workers[i].times[k] * 100);
        all->answers += workers[i].answers;
        all->measured += workers[i].measured;
        all->closed += workers[i].closed;
        if (all->wrong == 0)
            memcpy(all->first_wrong, workers[i].first_wrong, sizeof(all->first_wrong));
        all->wrong += workers[i].wrong;
        if (workers[i].last_ns > all->last_ns)
            all->last_ns = workers[i].last_ns;
    }
    if (all->time_count)
        qsort(all->times, all->time_count, sizeof(*all->times), compare);
}

static double time_ms(const struct worker *all, double share)
{
    size_t at = (size_t)(share * (double)all->time_count);

    if (all->time_count == 0)
        return 0;
    return all->times[at < all->time_count ? at : all->time_count - 1] / 1e4;
}

static unsigned count_starved(const struct worker *workers)
{
    unsigned starved = 0;

    for (unsigned i = 0; i < opts.threads; i++)
        for (unsigned k = 0; k < workers[i].count; k++)
            starved += !workers[i].connections[k].was_answered;
    return starved;
}

static void print_result(struct worker *workers, double cpu_s, double took_s)
{
    struct worker *all = &workers[0];
    unsigned starved = count_starved(workers);
    double seconds = opts.seconds;

    gather(workers);
    if (opts.count && all->last_ns > begin_ns)
        seconds = (double)(all->last_ns - begin_ns) / 1e9;
    printf("{\"kind\":\"%s\",\"connections\":%u,\"seconds\":%.3f,\"rate\":%.1f,\"p50_ms\":%.4f,"
           "\"p99_ms\":%.4f,\"p999_ms\":%.4f,\"max_ms\":%.4f,\"answers\":%" PRIu64
           ",\"issued\":%" PRIu64 ",\"wrong\":%" PRIu64
           ",\"first_wrong\":\"%s\",\"closed\":%" PRIu64 ",\"starved\":%u,\"loader_cpu\":%.2f}\n",
           kind_names[opts.kind], opts.connections, seconds, (double)all->measured / seconds,
           time_ms(all, 0.5), time_ms(all, 0.99), time_ms(all, 0.999), time_ms(all, 1),
           all->answers, (uint64_t)atomic_load(&issued), all->wrong, all->first_wrong, all->closed,
           starved, cpu_s / took_s);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    struct worker workers[THREADS_MAX] = {0};
    int64_t start_ns;

    read_options(argc, argv);
    start_ns = now_ns(CLOCK_MONOTONIC);
    run_number = now_ns(CLOCK_REALTIME) / 1000000000 % 10000000;
    begin_ns = start_ns + (int64_t)(opts.warm_s * 1e9);
    end_ns = opts.count ? INT64_MAX : begin_ns + (int64_t)(opts.seconds * 1e9);
    for (unsigned i = 0; i < opts.threads; i++)
        start_worker(&workers[i],
                     opts.connections / opts.threads + (i < opts.connections % opts.threads));
    for (unsigned i = 0; i < opts.threads; i++)
        pthread_join(workers[i].thread, NULL);
    print_result(workers, cpu_seconds(), (double)(now_ns(CLOCK_MONOTONIC) - start_ns) / 1e9);
    return 0;
}
