/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include "traffic.h"

#include <civetweb.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BODY_MAX = 65536, HEX_CHARS = 64, TOLERANCE_MS = 180000 };

static const struct peer_opts *peer;

/* ------------------------------------------------------------------------ signatures */

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
    if (!EVP_MAC_init(ctx, (const unsigned char *)secret, strlen(secret), params))
        abort();
    return ctx;
}

/* Of "<t>.<body>"; a context for each thread, so that none is made for a request. */
static void sign(const char *secret, EVP_MAC_CTX **mac, const char *t, size_t t_len,
                 const char *body, size_t len, char hex[HEX_CHARS + 1])
{
    unsigned char bytes[HEX_CHARS / 2];
    size_t size;

    if (!*mac)
        *mac = new_mac(secret);
    EVP_MAC_init(*mac, NULL, 0, NULL);
    EVP_MAC_update(*mac, (const unsigned char *)t, t_len);
    EVP_MAC_update(*mac, (const unsigned char *)".", 1);
    EVP_MAC_update(*mac, (const unsigned char *)body, len);
    EVP_MAC_final(*mac, bytes, &size, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    hex[HEX_CHARS] = '\0';
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* The header is "t=<ms>, v1=<hex>". */
static bool is_genuine(const char *header, const char *secret, EVP_MAC_CTX **mac, const char *body,
                       size_t len)
{
    const char *t = header ? strstr(header, "t=") : NULL, *v1 = t ? strstr(t, "v1=") : NULL;
    char hex[HEX_CHARS + 1];
    int64_t skew_ms;

    if (!v1 || strlen(v1 + 3) != HEX_CHARS)
        return false;
    t += 2;
    sign(secret, mac, t, strspn(t, "0123456789"), body, len, hex);
    skew_ms = now_ms() - strtoll(t, NULL, 10);
    return CRYPTO_memcmp(v1 + 3, hex, HEX_CHARS) == 0 && llabs(skew_ms) <= TOLERANCE_MS;
}

/* ------------------------------------------------------------------------ JSON */

/* Behind the string that begins at *at with a quote; what is between the quotes in *out. */
static const char *read_string(const char *at, const char *end, struct peer_text *out)
{
    out->at = ++at;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    out->len = (size_t)(at - out->at);
    return at < end ? at + 1 : end;
}

static bool is_text(struct peer_text text, const char *name)
{
    return text.len == strlen(name) && memcmp(text.at, name, text.len) == 0;
}

static void keep_member(struct peer_event *out, int depth, bool in_data, struct peer_text key,
                        struct peer_text value)
{
    const struct {
        const char *name;
        struct peer_text *slot;
        bool of_data;
    } wanted[] = {
        {"id", &out->id, false},
        {"event", &out->event, false},
        {"id", &out->user_id, true},
        {"email", &out->email, true},
        {"first_name", &out->first_name, true},
        {"last_name", &out->last_name, true},
        {"external_id", &out->external_id, true},
        {"created_at", &out->created_at, true},
        {"updated_at", &out->updated_at, true},
    };

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (wanted[i].of_data == in_data && depth == (in_data ? 2 : 1) &&
            is_text(key, wanted[i].name))
            *wanted[i].slot = value;
}

/* One walk: strings, and how deep they stand. */
bool peer_read_event(const char *body, size_t len, struct peer_event *out)
{
    const char *at = body, *end = body + len;
    struct peer_text key = {NULL, 0}, text;
    bool in_data = false, is_value = false;
    int depth = 0;

    memset(out, 0, sizeof(*out));
    while (at < end) {
        char c = *at;

        if (c == '"') {
            at = read_string(at, end, &text);
            if (is_value)
                keep_member(out, depth, in_data, key, text);
            else
                key = text;
            continue;
        }
        if (c == '{' && depth++ == 1)
            in_data = key.at && is_text(key, "data");
        if (c == '}' && --depth == 1)
            in_data = false;
        if (c == ':' || c == ',' || c == '{')
            is_value = c == ':';
        at++;
    }
    return depth == 0 && out->id.at && out->event.at && out->user_id.at;
}

/* ------------------------------------------------------------------------ HTTP */

static int answer(struct mg_connection *conn, int status, const char *body)
{
    char text[1024];
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       status, status == 200 ? "OK" : "Error", strlen(body), body);

    mg_write(conn, text, (size_t)len);
    return status;
}

static int answer_webhook(struct mg_connection *conn, const char *signature, const char *body,
                          size_t len)
{
    static _Thread_local EVP_MAC_CTX *mac;

    if (!is_genuine(signature, TRAFFIC_WEBHOOK_SECRET, &mac, body, len))
        return answer(conn, 401, "{\"error\":\"signature\"}");
    return peer->take(body, len) ? answer(conn, 200, "{\"received\":true}")
                                 : answer(conn, 503, "{\"error\":\"not stored\"}");
}

/* Who has no address at gmail.com may register. */
static int answer_action(struct mg_connection *conn, const char *signature, const char *body,
                         size_t len)
{
    static _Thread_local EVP_MAC_CTX *mac;
    char payload[128], t[24], hex[HEX_CHARS + 1], text[512];
    bool allow = !memmem(body, len, "@gmail.com\"", 11);

    if (!is_genuine(signature, TRAFFIC_ACTION_SECRET, &mac, body, len))
        return answer(conn, 401, "{\"error\":\"signature\"}");
    snprintf(t, sizeof(t), "%" PRId64, now_ms());
    snprintf(payload, sizeof(payload), "{\"timestamp\":%s,\"verdict\":\"%s\"}", t,
             allow ? "Allow" : "Deny");
    sign(TRAFFIC_ACTION_SECRET, &mac, t, strlen(t), payload, strlen(payload), hex);
    snprintf(text, sizeof(text),
             "{\"object\":\"user_registration_action_response\",\"payload\":%s,"
             "\"signature\":\"%s\"}",
             payload, hex);
    return answer(conn, 200, text);
}

static int handle(struct mg_connection *conn, void *unused)
{
    const struct mg_request_info *request = mg_get_request_info(conn);
    static _Thread_local char body[BODY_MAX];
    const char *signature = mg_get_header(conn, "WorkOS-Signature");
    long long wanted = request->content_length;
    int len = 0, n = 1;

    (void)unused;
    if (strcmp(request->local_uri, "/healthz") == 0)
        return answer(conn, 200, "{\"ok\":true}");
    if (wanted < 0 || wanted >= BODY_MAX)
        return answer(conn, 413, "{\"error\":\"length\"}");
    while (len < wanted && n > 0)
        len += n = mg_read(conn, body + len, (size_t)(wanted - len));
    body[len] = '\0';
    if (strcmp(request->local_uri, "/workos/webhook") == 0)
        return answer_webhook(conn, signature, body, (size_t)len);
    if (strcmp(request->local_uri, "/workos/action") == 0)
        return answer_action(conn, signature, body, (size_t)len);
    return answer(conn, 404, "{\"error\":\"not found\"}");
}

int peer_serve(int port, int threads, const struct peer_opts *opts)
{
    char ports[32], thread_count[16];
    const char *options[] = {
        "listening_ports",
        ports,
        "num_threads",
        thread_count,
        "connection_queue",
        "512",
        "listen_backlog",
        "1024",
        "enable_keep_alive",
        "yes",
        "keep_alive_timeout_ms",
        "60000",
        "request_timeout_ms",
        "60000",
        "tcp_nodelay",
        "1",
        NULL,
    };
    struct mg_context *server;
    sigset_t signals;
    int got;

    snprintf(ports, sizeof(ports), "127.0.0.1:%d", port);
    snprintf(thread_count, sizeof(thread_count), "%d", threads);
    peer = opts;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    mg_init_library(0);
    server = mg_start(NULL, NULL, options);
    if (!server) {
        fprintf(stderr, "cannot listen on port %d\n", port);
        return 1;
    }
    mg_set_request_handler(server, "/", handle, NULL);
    sigwait(&signals, &got);
    _exit(0); /* whatever was answered is on disk; civetweb would wait for its idle connections */
}
