/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a connection, sent to a server that runs: what its handler sees must be what a strict
 * reading of the same bytes sees, one request after the other, and nothing that is right is refused.
 *
 * The first byte of the input says how the bytes are cut into two sends.
 *
 * libFuzzer: -dict=tests/fuzz/frame.dict -detect_leaks=0
 */
#include "http/server.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_reading.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 1000, BLOCK_MAX = 16 * 1024, ANSWERS_MAX = 4 * 1024 * 1024 };

static struct sockaddr_in address = {.sin_family = AF_INET};

/* --- the server ---------------------------------------------------------------------------------- */

/* The request in words, which the fuzzer compares with its own. */
static void handle(void *arg, const struct http_request *request, struct http_response *response)
{
    struct buf *out = &response->body;

    (void)arg;
    buf_printf(out, "%s %s%s%s\n", request->method, request->path, request->query ? "?" : "",
               request->query ? request->query : "");
    for (size_t i = 0; i < request->header_count; i++)
        buf_printf(out, "%s:%s\n", request->headers[i].name, request->headers[i].value);
    buf_put(out, request->body, request->body_len);
}

/* libFuzzer looks at the clock by an alarm, which would end our waits. */
static void go_on_after_alarms(void)
{
    struct sigaction action;

    sigaction(SIGALRM, NULL, &action);
    action.sa_flags |= SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
}

static void start(void)
{
    struct http_server_opts opts = {
        .address = "127.0.0.1:0",
        .threads = 1,
        .max_body_bytes = BODY_MAX,
        .body_budget_bytes = 1 << 20,
        .answer_budget_bytes = 16 << 20,
        .request_timeout_ms = 5000,
        .idle_timeout_ms = 5000,
        .max_connections = 16,
        .handle = handle,
    };
    struct http_server *server;
    struct err err;

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    go_on_after_alarms();
    if (http_server_start(&server, &opts, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    address.sin_port = htons((uint16_t)atoi(strchr(http_server_address(server), ':') + 1));
}

/* --- the client ---------------------------------------------------------------------------------- */

/* From one of many addresses in turn: the ports of one are soon used up. */
static int connect_to_server(void)
{
    static unsigned turn;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;

    from.sin_addr.s_addr = htonl(0x7f000001 + turn++ % 250);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror("connect");
        abort();
    }
    return fd;
}

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0)
            return; /* refused already */
        bytes += n;
        len -= (size_t)n;
    }
}

/* Sends the bytes and an end; returns all that is answered. */
static struct piece talk(const char *bytes, size_t len, size_t first)
{
    static char answers[ANSWERS_MAX];
    size_t got = 0;
    ssize_t n;
    int fd = connect_to_server();

    send_all(fd, bytes, first);
    send_all(fd, bytes + first, len - first);
    shutdown(fd, SHUT_WR);
    while ((n = recv(fd, answers + got, sizeof(answers) - got, 0)) > 0)
        got += (size_t)n;
    close(fd);
    return (struct piece){answers, got};
}

/* --- what it should have seen --------------------------------------------------------------------- */

struct request {
    struct reading reading;
    struct piece body;
    size_t size;
};

static bool is_one_of(struct piece word, const char *const *words)
{
    for (; *words; words++)
        if (is_text(word, *words))
            return true;
    return false;
}

static bool has_control(struct piece block)
{
    for (size_t i = 0; i < block.len; i++) {
        unsigned char c = (unsigned char)block.at[i];

        if ((c < ' ' && c != '\r' && c != '\n') || c == 127)
            return true;
    }
    return false;
}

/* Such a path is refused; what is in a query is for the handler to judge. */
static bool has_nul_in_path(struct piece target)
{
    const char *query = memchr(target.at, '?', target.len);
    size_t len = query ? (size_t)(query - target.at) : target.len;

    return memmem(target.at, len, "%00", 3) != NULL;
}

/* Cut the request that stands in front, if it is whole and nobody could read it in another way. */
static bool take_request(struct piece bytes, struct request *out)
{
    static const char *const versions[] = {"HTTP/1.1", "HTTP/1.0", NULL};
    const struct piece *words = out->reading.words, *length;
    struct piece block = bytes, rest;
    size_t hosts, lengths, encodings;
    long body_len = 0;

    if (bytes.len > BLOCK_MAX)
        block.len = BLOCK_MAX;
    rest = block;
    if (!cut(&rest, "\r\n\r\n", &block))
        return false;
    block.len += 4;
    if (has_control(block) || !read_strictly(block, &out->reading) ||
        out->reading.header_count >= READING_HEADERS_MAX || !is_one_of(words[2], versions) ||
        words[1].at[0] != '/' || has_nul_in_path(words[1]))
        return false;
    header(&out->reading, "Host", &hosts);
    header(&out->reading, "Transfer-Encoding", &encodings);
    length = header(&out->reading, "Content-Length", &lengths);
    if (length)
        body_len = length_of(*length, BODY_MAX);
    if (hosts > 1 || (hosts == 0 && is_text(words[2], "HTTP/1.1")) || encodings > 0 ||
        lengths > 1 || body_len < 0 || bytes.len - block.len < (size_t)body_len)
        return false;
    out->body = (struct piece){bytes.at + block.len, (size_t)body_len};
    out->size = block.len + (size_t)body_len;
    return true;
}

/* It is as everybody sends it: there is no reason to refuse it. */
static bool is_usual(const struct request *request)
{
    static const char *const without_body[] = {"GET", "HEAD", "DELETE", NULL};
    static const char *const with_body[] = {"POST", "PUT", "PATCH", NULL};
    struct piece method = request->reading.words[0];
    size_t lengths, expectations;

    header(&request->reading, "Content-Length", &lengths);
    header(&request->reading, "Expect", &expectations);
    return expectations == 0 &&
           (is_one_of(method, without_body) || (is_one_of(method, with_body) && lengths > 0));
}

static void put_piece(struct buf *out, struct piece piece, const char *behind)
{
    buf_put(out, piece.at, piece.len);
    buf_puts(out, behind);
}

static void describe(const struct request *request, struct buf *out)
{
    const struct reading *reading = &request->reading;

    put_piece(out, reading->words[0], " ");
    put_piece(out, reading->words[1], "\n");
    for (size_t i = 0; i < reading->header_count; i++) {
        put_piece(out, reading->names[i], ":");
        put_piece(out, reading->values[i], "\n");
    }
    put_piece(out, request->body, "");
}

/* --- what it answered ------------------------------------------------------------------------------ */

struct answer {
    int status;
    bool closes;
    struct piece body;
};

static bool take_answer(struct piece *answers, struct answer *out)
{
    struct piece head, line, rest;
    long len = 0;

    if (answers->len == 0)
        return false;
    if (!cut(answers, "\r\n\r\n", &head) || head.len < 12 || memcmp(head.at, "HTTP/1.1 ", 9) != 0)
        abort();
    *out = (struct answer){.status = atoi(head.at + 9)};
    out->closes = memmem(head.at, head.len, "\r\nConnection: close", 19) != NULL;
    rest = (struct piece){head.at, head.len + 2};
    while (cut(&rest, "\r\n", &line))
        if (line.len > 16 && memcmp(line.at, "Content-Length: ", 16) == 0)
            len = length_of((struct piece){line.at + 16, line.len - 16}, ANSWERS_MAX);
    /* That to a HEAD says how long its body would be; no body of ours begins like an answer. */
    if (answers->len == 0 || (answers->len > 9 && memcmp(answers->at, "HTTP/1.1 ", 9) == 0))
        len = 0;
    assert(len >= 0 && (size_t)len <= answers->len);
    out->body = (struct piece){answers->at, (size_t)len};
    *answers = (struct piece){answers->at + len, answers->len - (size_t)len};
    return true;
}

static void expect_text(struct piece got, const struct buf *wanted)
{
    if (got.len == wanted->len && memcmp(got.at, buf_text(wanted), got.len) == 0)
        return;
    fprintf(stderr, "the handler saw\n%.*s\n---- instead of\n%s\n", (int)got.len, got.at,
            buf_text(wanted));
    abort();
}

/* The next answer but a 100; false when there is none. */
static bool take_final_answer(struct piece *answers, struct answer *out)
{
    do
        if (!take_answer(answers, out))
            return false;
    while (out->status == 100);
    return true;
}

/* Nothing is served that isn't plain, and everything that is usual; after a refusal nothing is. */
static void check(struct piece bytes, struct piece answers)
{
    struct buf wanted = BUF_INIT(1 << 20);
    static struct request request;
    struct answer answer = {0};

    while (!answer.closes && take_request(bytes, &request)) {
        if (!take_final_answer(&answers, &answer))
            abort();
        if (answer.status != 200) {
            assert(!is_usual(&request));
            break;
        }
        buf_reset(&wanted);
        describe(&request, &wanted);
        if (!is_text(request.reading.words[0], "HEAD"))
            expect_text(answer.body, &wanted);
        bytes = (struct piece){bytes.at + request.size, bytes.len - request.size};
    }
    if (!answer.closes && take_final_answer(&answers, &answer))
        assert(answer.status >= 400 && answer.closes);
    assert(answers.len == 0 && (answer.status < 400 || answer.closes));
    buf_release(&wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data + 1;

    if (size < 2)
        return 0;
    if (!address.sin_port)
        start();
    check((struct piece){bytes, size - 1}, talk(bytes, size - 1, data[0] * (size - 1) / 255));
    return 0;
}
