/* SPDX-License-Identifier: MIT */
#include "admin/admin_guard.h"

#include "base/authority.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "crypto/hmac.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    ID_BYTES = 32,
    ID_HEX = 2 * ID_BYTES,
    ADDRESSES = 64, /* whose wrong tokens are counted; one more forgets the one that is oldest */
    HOST_MAX = 256,
    NAME_MAX_BYTES = 64,
};

struct session {
    unsigned char id[ID_BYTES];
    int64_t ends_ms; /* 0: none */
};

struct tries {
    char address[INET6_ADDRSTRLEN];
    int64_t since_ms; /* of the first one that is counted; 0: none */
    int wrong;
};

struct admin_guard {
    char host[HOST_MAX]; /* of --admin-listen, in brackets if it came so */
    bool is_anywhere;    /* it listens on every address that the machine has */
    bool has_token;
    unsigned char token[SHA256_BYTES]; /* its digest: so all comparisons are equally long */
    int64_t session_ms, tries_ms;

    pthread_mutex_t lock;
    struct session sessions[ADMIN_GUARD_SESSIONS]; /* guarded by lock, as the next */
    struct tries tries[ADDRESSES];
};

/* ------------------------------------------------------------------------- where it is for */

/* Nothing, or a port. */
static bool is_port(const char *text)
{
    uint64_t port;

    return !*text || (*text == ':' && text_to_u64(text + 1, strlen(text + 1), 65535, &port));
}

static bool is_address(const char *host)
{
    unsigned char any[sizeof(struct in6_addr)];
    char bare[INET6_ADDRSTRLEN];
    size_t len = strlen(host);

    if (host[0] != '[')
        return inet_pton(AF_INET, host, any) == 1;
    if (len < 3 || len - 2 >= sizeof(bare))
        return false;
    memcpy(bare, host + 1, len - 2);
    bare[len - 2] = '\0';
    return inet_pton(AF_INET6, bare, any) == 1;
}

static bool is_our_host(const struct admin_guard *guard, const char *authority)
{
    char host[HOST_MAX];
    size_t len = authority_host_length(authority);

    if (len == 0 || len >= sizeof(host) || !is_port(authority + len))
        return false;
    memcpy(host, authority, len);
    host[len] = '\0';
    if (authority_is_loopback(host) || strcasecmp(host, guard->host) == 0)
        return true;
    return guard->is_anywhere && is_address(host); /* an address leads nowhere but where it says */
}

/* An origin is a scheme and what stands in Host. The scheme isn't ours to know, behind a proxy. */
static bool is_own_origin(const char *origin, const char *host)
{
    const char *rest = strstr(origin, "://");
    size_t scheme = rest ? (size_t)(rest - origin) : 0;

    if (scheme != strlen("http") && scheme != strlen("https"))
        return false;
    return strncasecmp(origin, "https", scheme) == 0 && strcasecmp(rest + 3, host) == 0;
}

/* Whether a page of somebody else made the browser ask. Following a link is fine: what is shown then
 * is shown to the person, not to the page. */
static bool is_from_elsewhere(const struct http_request *request)
{
    const char *site = http_request_header(request, "Sec-Fetch-Site");
    const char *mode = http_request_header(request, "Sec-Fetch-Mode");
    const char *aim = http_request_header(request, "Sec-Fetch-Dest");

    if (!site || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0)
        return false;
    return strcmp(request->method, "GET") != 0 || !mode || strcmp(mode, "navigate") != 0 || !aim ||
           strcmp(aim, "document") != 0;
}

bool admin_guard_is_for_us(const struct admin_guard *guard, const struct http_request *request,
                           struct http_response *response)
{
    const char *host = http_request_header(request, "Host");
    const char *origin = http_request_header(request, "Origin");

    if (!host || !is_our_host(guard, host)) {
        http_response_error(response, 403, "host_refused",
                            "the Host header must be localhost, a loopback address, or the address "
                            "of --admin-listen; from afar, come through a tunnel such as "
                            "ssh -L 9090:127.0.0.1:9090");
        return false;
    }
    if ((origin && !is_own_origin(origin, host)) ||
        http_request_header_count(request, "Origin") > 1 || is_from_elsewhere(request)) {
        http_response_error(response, 403, "origin_refused",
                            "a page of another origin can't ask anything here");
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------------- wrong tokens */

/* The address's count, begun anew when its time is over; NULL when it has none. The lock is held. */
static struct tries *find_tries(struct admin_guard *guard, const char *address, int64_t now_ms)
{
    for (size_t i = 0; i < ADDRESSES; i++) {
        struct tries *tries = &guard->tries[i];

        if (tries->since_ms && now_ms - tries->since_ms > guard->tries_ms)
            *tries = (struct tries){0};
        if (tries->since_ms && strcmp(tries->address, address) == 0)
            return tries;
    }
    return NULL;
}

static struct tries *new_tries(struct admin_guard *guard, const char *address, int64_t now_ms)
{
    struct tries *oldest = &guard->tries[0];

    for (size_t i = 1; i < ADDRESSES; i++)
        if (guard->tries[i].since_ms < oldest->since_ms)
            oldest = &guard->tries[i];
    *oldest = (struct tries){.since_ms = now_ms};
    snprintf(oldest->address, sizeof(oldest->address), "%s", address);
    return oldest;
}

static void count_wrong(struct admin_guard *guard, const char *address, int64_t now_ms)
{
    struct tries *tries = find_tries(guard, address, now_ms);

    if (!tries)
        tries = new_tries(guard, address, now_ms);
    tries->wrong++;
    if (tries->wrong == ADMIN_GUARD_TRIES)
        log_warn("too many wrong admin tokens; the address must wait", log_str("address", address));
}

static enum admin_pass judge_token(struct admin_guard *guard, const char *address,
                                   const char *token, size_t len)
{
    unsigned char digest[SHA256_BYTES];
    int64_t now_ms = clock_mono_ms();
    enum admin_pass pass = ADMIN_PASS_WRONG;
    const struct tries *tries;

    pthread_mutex_lock(&guard->lock);
    tries = find_tries(guard, address, now_ms);
    if (tries && tries->wrong >= ADMIN_GUARD_TRIES)
        pass = ADMIN_PASS_TOO_MANY;
    else if (crypto_sha256(token, len, digest, NULL) == 0 &&
             crypto_equal(digest, guard->token, sizeof(digest)))
        pass = ADMIN_PASS_GOOD;
    else
        count_wrong(guard, address, now_ms);
    pthread_mutex_unlock(&guard->lock);
    return pass;
}

/* ------------------------------------------------------------------------- sessions */

static void cookie_name(const struct http_request *request, char out[NAME_MAX_BYTES])
{
    const char *host = http_request_header(request, "Host");
    const char *port = host ? host + authority_host_length(host) : "";

    snprintf(out, NAME_MAX_BYTES, "authkitd_%.5s", *port ? port + 1 : "80");
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

static bool read_id(const char *hex, size_t len, unsigned char out[ID_BYTES])
{
    if (len != ID_HEX)
        return false;
    for (size_t i = 0; i < ID_BYTES; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

/* The number in our cookie: the first one of that name that is one. */
static bool find_cookie(const struct http_request *request, unsigned char out[ID_BYTES])
{
    const char *at = http_request_header(request, "Cookie");
    char name[NAME_MAX_BYTES];
    size_t name_len;

    cookie_name(request, name);
    name_len = strlen(name);
    while (at && *at) {
        size_t len = strcspn(at, ";");

        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=' &&
            read_id(at + name_len + 1, len - name_len - 1, out))
            return true;
        at += len + (at[len] == ';');
        at += strspn(at, " ");
    }
    return false;
}

/* The lock is held. Looks at all of them, so that it takes as long whatever is found. */
static struct session *find_session(struct admin_guard *guard, const unsigned char id[ID_BYTES])
{
    struct session *found = NULL;
    int64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < ADMIN_GUARD_SESSIONS; i++)
        if (crypto_equal(guard->sessions[i].id, id, ID_BYTES) &&
            guard->sessions[i].ends_ms > now_ms)
            found = &guard->sessions[i];
    return found;
}

static bool has_session(struct admin_guard *guard, const struct http_request *request)
{
    unsigned char id[ID_BYTES];
    bool has;

    if (!find_cookie(request, id))
        return false;
    pthread_mutex_lock(&guard->lock);
    has = find_session(guard, id) != NULL;
    pthread_mutex_unlock(&guard->lock);
    return has;
}

/* Where the one was that ends first; free places have ended long ago. */
static int add_session(struct admin_guard *guard, unsigned char out[ID_BYTES], struct err *err)
{
    struct session *first = &guard->sessions[0];
    int rc = crypto_random(out, ID_BYTES, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&guard->lock);
    for (size_t i = 1; i < ADMIN_GUARD_SESSIONS; i++)
        if (guard->sessions[i].ends_ms < first->ends_ms)
            first = &guard->sessions[i];
    memcpy(first->id, out, ID_BYTES);
    first->ends_ms = clock_mono_ms() + guard->session_ms;
    pthread_mutex_unlock(&guard->lock);
    return 0;
}

static void set_cookie(const struct http_request *request, const char *value, int64_t age_s,
                       struct http_response *response)
{
    char name[NAME_MAX_BYTES], text[256];

    cookie_name(request, name);
    snprintf(text, sizeof(text), "%s=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%" PRId64, name,
             value, age_s);
    if (http_response_header(response, "Set-Cookie", text) < 0)
        response->headers.failed = true;
    response->status = 204;
    response->content_type = "";
}

static void begin_session(struct admin_guard *guard, const struct http_request *request,
                          struct http_response *response)
{
    unsigned char id[ID_BYTES];
    char hex[ID_HEX + 1];
    struct err err;

    if (add_session(guard, id, &err) < 0) {
        http_response_error(response, 503, "not_signed_in", err.text);
        return;
    }
    crypto_hex(id, sizeof(id), hex);
    set_cookie(request, hex, guard->session_ms / 1000, response);
    log_info("signed in to the dashboard", log_str("address", request->remote_addr));
}

void admin_guard_sign_in(struct admin_guard *guard, const struct http_request *request,
                         struct http_response *response)
{
    struct json json = {0};
    struct err err;
    uint32_t token = JSON_ABSENT;
    char *text = NULL;
    enum admin_pass pass;

    if (json_read(&json, request->body, request->body_len, &err) == 0)
        token = json_string_member(&json, 0, "token");
    if (!guard->has_token) {
        http_response_error(response, 404, "no_token",
                            "no token is needed here: AUTHKITD_ADMIN_TOKEN isn't set");
    } else if (!token || !(text = malloc(json.nodes[token].len + 1))) {
        http_response_error(response, 400, "token_missing", "the body must be {\"token\":\"…\"}");
    } else {
        size_t len = json_decode(&json, token, text);

        pass = judge_token(guard, request->remote_addr, text, len);
        if (pass == ADMIN_PASS_GOOD)
            begin_session(guard, request, response);
        else
            admin_guard_refuse(pass, response);
        crypto_wipe(text, len);
    }
    free(text);
    json_release(&json);
}

void admin_guard_sign_out(struct admin_guard *guard, const struct http_request *request,
                          struct http_response *response)
{
    unsigned char id[ID_BYTES];
    struct session *session;

    if (find_cookie(request, id)) {
        pthread_mutex_lock(&guard->lock);
        session = find_session(guard, id);
        if (session)
            *session = (struct session){0};
        pthread_mutex_unlock(&guard->lock);
    }
    set_cookie(request, "", 0, response);
}

/* ------------------------------------------------------------------------- who it is */

enum admin_pass admin_guard_ask(struct admin_guard *guard, const struct http_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *given = http_request_header(request, "Authorization");

    if (!guard->has_token || has_session(guard, request))
        return ADMIN_PASS_GOOD;
    if (!given || strncasecmp(given, scheme, sizeof(scheme) - 1) != 0)
        return ADMIN_PASS_MISSING;
    given += sizeof(scheme) - 1;
    given += strspn(given, " ");
    return judge_token(guard, request->remote_addr, given, strlen(given));
}

void admin_guard_refuse(enum admin_pass pass, struct http_response *response)
{
    int rc;

    if (pass == ADMIN_PASS_TOO_MANY) {
        http_response_error(response, 429, "too_many_tries",
                            "too many wrong admin tokens came from this address: wait a minute");
        rc = http_response_header(response, "Retry-After", "60");
    } else {
        http_response_error(response, 401,
                            pass == ADMIN_PASS_WRONG ? "token_wrong" : "token_missing",
                            pass == ADMIN_PASS_WRONG
                                ? "the admin token is wrong: AUTHKITD_ADMIN_TOKEN must be the one "
                                  "that the server was started with"
                                : "the server wants its admin token: set AUTHKITD_ADMIN_TOKEN (or "
                                  "AUTHKITD_ADMIN_TOKEN_FILE) to the one that it was started with");
        rc = http_response_header(response, "WWW-Authenticate", "Bearer realm=\"authkitd\"");
    }
    if (rc < 0)
        response->headers.failed = true; /* only for lack of memory: the server answers 500 */
}

/* ------------------------------------------------------------------------- start and end */

int admin_guard_new(struct admin_guard **out, const struct admin_guard_opts *opts, struct err *err)
{
    struct admin_guard *guard = calloc(1, sizeof(*guard));
    int rc = 0;

    if (!guard)
        return err_set(err, ERR_NOMEM, "no memory for the admin listener");
    snprintf(guard->host, sizeof(guard->host), "%.*s", (int)authority_host_length(opts->address),
             opts->address);
    guard->is_anywhere = strcmp(guard->host, "0.0.0.0") == 0 || strcmp(guard->host, "[::]") == 0;
    guard->session_ms = opts->session_ms ? opts->session_ms : ADMIN_GUARD_SESSION_MS;
    guard->tries_ms = opts->tries_ms ? opts->tries_ms : ADMIN_GUARD_TRIES_MS;
    guard->has_token = opts->token != NULL;
    if (opts->token)
        rc = crypto_sha256(opts->token, strlen(opts->token), guard->token, err);
    if (rc < 0) {
        free(guard);
        return rc;
    }
    pthread_mutex_init(&guard->lock, NULL);
    *out = guard;
    return 0;
}

void admin_guard_free(struct admin_guard *guard)
{
    if (!guard)
        return;
    pthread_mutex_destroy(&guard->lock);
    crypto_wipe(guard, sizeof(*guard));
    free(guard);
}
