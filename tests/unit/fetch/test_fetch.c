/* SPDX-License-Identifier: MIT */
#include "fetch/fetch.h"

#include "unit/crypto/cert.h"
#include "unit/fetch/peer.h"
#include "unit/store/temp_dir.h"

#include <signal.h>
#include <time.h>

#define OK(body_len) "HTTP/1.1 200 OK\r\nContent-Length: " #body_len "\r\n\r\n"
#define KEY "sk_test_secret"

/* How much longer than the fastest a slow build on a busy machine may take. */
enum { PATIENCE_MS = 10000, TICK_MS = 20 }; /* a timer may be a tick early */

static struct peer peer; /* large: not on the stack */

static struct fetch_opts plain_opts(void)
{
    return (struct fetch_opts){
        .user_agent = "authkitd/test",
        .connect_timeout_ms = 5000,
        .stall_ms = 5000,
        .timeout_ms = 10000,
        .max_bytes = 1024 * 1024,
    };
}

static struct fetch *open_fetch(struct fetch_opts opts)
{
    struct fetch *fetch = NULL;
    struct err err = {0};

    if (fetch_new(&fetch, &opts, &err) < 0)
        fail_msg("%s", err.text);
    return fetch;
}

static int get(struct fetch *fetch, const char *url, struct fetch_response *out, struct err *err)
{
    const struct fetch_request request = {.method = "GET", .url = url, .bearer = KEY};

    return fetch_call(fetch, &request, out, err);
}

/* One GET of one step; the answer. */
static struct fetch_response ask(const char *answer)
{
    const struct peer_step step = {answer, PEER_KEEP, 0};
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_response response = {0};
    struct err err = {0};

    peer_start(&peer, &step, 1);
    if (get(fetch, peer.url, &response, &err) < 0)
        fail_msg("%s, for\n%s", err.text, answer);
    fetch_free(fetch);
    peer_stop(&peer);
    return response;
}

/* One GET that fails with that code and all these texts; returns the ms that it took. */
static int64_t expect_error(struct fetch_opts opts, const struct peer_step *step, int code,
                            const char *text)
{
    struct fetch *fetch = open_fetch(opts);
    struct fetch_response response = {0};
    struct err err = {0};
    int64_t started_ms;
    int rc;

    peer_start(&peer, step, 1);
    started_ms = clock_mono_ms();
    rc = get(fetch, peer.url, &response, &err);
    started_ms = clock_mono_ms() - started_ms;
    fetch_free(fetch);
    peer_stop(&peer);
    if (rc != code || !strstr(err.text, text) || !strstr(err.text, peer.url) ||
        strstr(err.text, KEY))
        fail_msg("%d '%s', wanted %d '%s'", rc, err.text, code, text);
    return started_ms;
}

/* --- requests --------------------------------------------------------------------------------- */

static void fetch__get_sends_what_belongs_to_it(void **state)
{
    const struct peer_step step = {OK(2) "{}", PEER_KEEP, 0};
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_response response;
    struct err err = {0};
    char url[128], host[64];

    (void)state;
    peer_start(&peer, &step, 1);
    snprintf(url, sizeof(url), "%s/events?events=a,b&after=x%%20y", peer.url);
    snprintf(host, sizeof(host), "127.0.0.1:%d", peer.port);
    assert_int_equal(get(fetch, url, &response, &err), 0);
    assert_int_equal(response.status, 200);
    assert_string_equal(buf_text(&response.body), "{}");
    assert_int_equal(response.retry_after_ms, -1);
    assert_string_equal(response.request_id, "");
    fetch_response_release(&response);
    fetch_free(fetch);
    peer_stop(&peer);
    assert_int_equal(
        strncmp(peer.requests[0].text, "GET /events?events=a,b&after=x%20y HTTP/1.1\r\n", 45), 0);
    assert_string_equal(peer_header(&peer.requests[0], "Host"), host);
    assert_string_equal(peer_header(&peer.requests[0], "Authorization"), "Bearer " KEY);
    assert_string_equal(peer_header(&peer.requests[0], "User-Agent"), "authkitd/test");
    assert_string_equal(peer_header(&peer.requests[0], "Accept"), "application/json");
    assert_null(peer_header(&peer.requests[0], "Content-Type"));
    assert_null(peer_header(&peer.requests[0], "Content-Length"));
}

static void fetch__methods_with_and_without_a_body(void **state)
{
    static const struct {
        const char *method;
        const char *json;
    } calls[] = {
        {"POST", "{\"a\":1}"}, {"PATCH", "{\"b\":\"\xC3\xA4\"}"}, {"DELETE", NULL}, {"PUT", ""}};
    const struct peer_step step = {"HTTP/1.1 204 No Content\r\n\r\n", PEER_KEEP, 0};
    struct fetch *fetch = open_fetch(plain_opts());
    struct err err = {0};

    (void)state;
    peer_start(&peer, &step, 1);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        const struct fetch_request request = {
            .method = calls[i].method,
            .url = peer.url,
            .json = calls[i].json,
            .json_len = calls[i].json ? strlen(calls[i].json) : 0,
        };
        struct fetch_response response;

        assert_int_equal(fetch_call(fetch, &request, &response, &err), 0);
        assert_int_equal(response.status, 204);
        assert_int_equal(response.body.len, 0);
        fetch_response_release(&response);
    }
    fetch_free(fetch);
    peer_stop(&peer);
    assert_int_equal(peer.count, ARRAY_LEN(calls));
    assert_int_equal(peer.connections, 1);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        const struct peer_request *request = &peer.requests[i];
        size_t len = strlen(calls[i].method);

        assert_memory_equal(request->text, calls[i].method, len);
        assert_int_equal(request->text[len], ' ');
        assert_string_equal(request->body, calls[i].json ? calls[i].json : "");
        assert_null(peer_header(request, "Authorization"));
        assert_null(peer_header(request, "Expect"));
        if (calls[i].json)
            assert_string_equal(peer_header(request, "Content-Type"), "application/json");
        else
            assert_null(peer_header(request, "Content-Type"));
    }
}

static void fetch__a_large_body_goes_whole(void **state)
{
    enum { LEN = 60000 };
    const struct peer_step step = {OK(0), PEER_KEEP, 0};
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_request request = {.method = "POST", .json_len = LEN};
    struct fetch_response response;
    struct err err = {0};
    char *json = malloc(LEN + 1);

    (void)state;
    memset(json, 'x', LEN);
    json[LEN] = '\0';
    peer_start(&peer, &step, 1);
    request.url = peer.url;
    request.json = json;
    assert_int_equal(fetch_call(fetch, &request, &response, &err), 0);
    fetch_response_release(&response);
    fetch_free(fetch);
    peer_stop(&peer);
    assert_string_equal(peer.requests[0].body, json);
    free(json);
}

static void fetch__a_key_that_would_end_its_header_is_refused(void **state)
{
    static const char *const keys[] = {"sk_x\r\nX-Evil: 1", "sk_x\n", "sk x", "sk_\xC3\xA4",
                                       "\x7F"};
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_request request = {.method = "GET", .url = "http://127.0.0.1:9/"};
    struct fetch_response response;
    struct err err = {0};
    char *long_key = calloc(1, 5001);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        request.bearer = keys[i];
        assert_int_equal(fetch_call(fetch, &request, &response, &err), ERR_INVALID);
        assert_null(strstr(err.text, "sk"));
    }
    memset(long_key, 'k', 5000);
    request.bearer = long_key;
    assert_int_equal(fetch_call(fetch, &request, &response, &err), ERR_INVALID);
    free(long_key);
    fetch_free(fetch);
}

static void fetch__urls_that_are_none(void **state)
{
    static const char *const urls[] = {"ftp://127.0.0.1/", "file:///etc/passwd", "http://", "",
                                       "http://a b/",      "http://x:99999/"};
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_response response;
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        int rc = get(fetch, urls[i], &response, &err);

        if (rc != ERR_INVALID)
            fail_msg("'%s': %d %s", urls[i], rc, err.text);
    }
    fetch_free(fetch);
}

static void fetch__put_escaped_leaves_plain_characters(void **state)
{
    struct buf out = BUF_INIT(1024);

    (void)state;
    fetch_put_escaped(&out, "azAZ09-._~ /?&=+%\xC3\xA4\n");
    assert_string_equal(buf_text(&out), "azAZ09-._~%20%2F%3F%26%3D%2B%25%C3%A4%0A");
    buf_release(&out);
}

/* --- connections ------------------------------------------------------------------------------ */

static void fetch__one_connection_serves_many_calls(void **state)
{
    static const struct peer_step steps[] = {
        {OK(1) "1", PEER_KEEP, 0},
        {"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n",
         PEER_KEEP, 0},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3", PEER_CLOSE, 0},
        {OK(1) "4", PEER_CLOSE, 0}, /* without saying so */
        {OK(1) "5", PEER_KEEP, 0},
    };
    static const int connections[] = {1, 1, 1, 2, 3};
    struct fetch *fetch = open_fetch(plain_opts());
    struct err err = {0};

    (void)state;
    peer_start(&peer, steps, ARRAY_LEN(steps));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct fetch_response response;

        if (get(fetch, peer.url, &response, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(response.body.len, 1);
        assert_int_equal(buf_text(&response.body)[0], '1' + (int)i);
        fetch_response_release(&response);
    }
    fetch_free(fetch);
    peer_stop(&peer);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        assert_int_equal(peer.requests[i].connection, connections[i]);
}

static void fetch__nobody_listens(void **state)
{
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_response response;
    struct err err = {0};

    (void)state;
    peer_start(&peer, &(struct peer_step){.answer = OK(0)}, 1);
    peer_stop(&peer);
    assert_int_equal(get(fetch, peer.url, &response, &err), ERR_IO);
    assert_non_null(strstr(err.text, peer.url));
    assert_non_null(strstr(err.text, "connect"));
    fetch_free(fetch);
}

static void fetch__a_redirect_is_an_answer(void **state)
{
    struct fetch_response response =
        ask("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");

    (void)state;
    assert_int_equal(response.status, 302);
    assert_int_equal(peer.count, 1);
    fetch_response_release(&response);
}

static void fetch__answers_that_end_early(void **state)
{
    static const struct peer_step steps[] = {
        {OK(100) "{\"object\":", PEER_CLOSE, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", PEER_CLOSE, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", PEER_CLOSE, 0},
        {"", PEER_CLOSE, 0},
        {"HTTP/1.1 200 OK\r\nContent-Le", PEER_CLOSE, 0},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le", PEER_CLOSE, 0},
        {"SSH-2.0-OpenSSH_9.2\r\n", PEER_CLOSE, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        expect_error(plain_opts(), &steps[i], ERR_IO, "");
}

/* --- limits ----------------------------------------------------------------------------------- */

static void fetch__an_answer_up_to_max_bytes(void **state)
{
    static const char *const fits[] = {
        OK(10) "0123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "a\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n",
    };
    static const struct peer_step too_large[] = {
        {OK(11) "0123456789x", PEER_KEEP, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789x\r\n0\r\n\r\n",
         PEER_KEEP, 0},
        {"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n0123456789x", PEER_CLOSE, 0},
    };
    struct fetch_opts opts = plain_opts();

    (void)state;
    opts.max_bytes = 10;
    for (size_t i = 0; i < ARRAY_LEN(fits); i++) {
        struct fetch *fetch = open_fetch(opts);
        struct fetch_response response;
        struct err err = {0};

        peer_start(&peer, &(struct peer_step){.answer = fits[i]}, 1);
        assert_int_equal(get(fetch, peer.url, &response, &err), 0);
        assert_string_equal(buf_text(&response.body), "0123456789");
        fetch_response_release(&response);
        fetch_free(fetch);
        peer_stop(&peer);
    }
    for (size_t i = 0; i < ARRAY_LEN(too_large); i++)
        expect_error(opts, &too_large[i], ERR_LIMIT, "larger than 10 bytes");
}

static void fetch__no_answer_in_time(void **state)
{
    static const struct peer_step steps[] = {{NULL, PEER_HANG, 0},
                                             {OK(9) "half", PEER_HANG, 0},
                                             {OK(99) "slowly it comes", PEER_DRIP, 0}};
    struct fetch_opts opts = plain_opts();

    (void)state;
    opts.timeout_ms = 300;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t took_ms = expect_error(opts, &steps[i], ERR_IO, "timed out");

        assert_in_range(took_ms, 300 - TICK_MS, 300 + PATIENCE_MS);
    }
}

static void fetch__a_server_that_falls_silent_is_given_up(void **state)
{
    static const struct peer_step steps[] = {{NULL, PEER_HANG, 0}, {OK(9) "half", PEER_HANG, 0}};
    struct fetch_opts opts = plain_opts();

    (void)state;
    opts.stall_ms = 1000;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t took_ms = expect_error(opts, &steps[i], ERR_IO, "nothing came for 1000 ms");

        assert_in_range(took_ms, 1000 - TICK_MS, 1000 + PATIENCE_MS);
    }
}

static void fetch__slow_is_not_silent(void **state)
{
    const struct peer_step step = {OK(5) "hello", PEER_DRIP, 0};
    struct fetch_opts opts = plain_opts();
    struct fetch *fetch;
    struct fetch_response response;
    struct err err = {0};

    (void)state;
    opts.stall_ms = 1500; /* it takes two seconds */
    fetch = open_fetch(opts);
    peer_start(&peer, &step, 1);
    if (get(fetch, peer.url, &response, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(buf_text(&response.body), "hello");
    fetch_response_release(&response);
    fetch_free(fetch);
    peer_stop(&peer);
}

static bool is_after(void *arg)
{
    return clock_mono_ms() >= *(int64_t *)arg;
}

static void fetch__cancelled_within_a_fraction_of_a_second(void **state)
{
    static const struct peer_step steps[] = {{NULL, PEER_HANG, 0},
                                             {OK(9) "half", PEER_HANG, 0},
                                             {OK(99) "slowly it comes", PEER_DRIP, 0}};
    struct fetch_opts opts = plain_opts();
    int64_t cancel_at_ms;

    (void)state;
    opts.cancelled = is_after;
    opts.arg = &cancel_at_ms;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t best_ms = INT64_MAX;

        /* Of ten tries the fastest: a busy machine is not what this is about. */
        for (int try = 0; try < 10 && best_ms > 400; try++) {
            int64_t took_ms;

            cancel_at_ms = clock_mono_ms() + 100;
            took_ms = expect_error(opts, &steps[i], ERR_CLOSED, "cancelled");
            best_ms = took_ms < best_ms ? took_ms : best_ms;
        }
        assert_in_range(best_ms, 50, 400);
    }
}

static void fetch__a_cancelled_call_leaves_a_usable_client(void **state)
{
    static const struct peer_step steps[] = {{OK(9) "half", PEER_HANG, 0},
                                             {OK(2) "ok", PEER_KEEP, 0}};
    struct fetch_opts opts = plain_opts();
    int64_t cancel_at_ms = clock_mono_ms() + 100;
    struct fetch *fetch;
    struct fetch_response response;
    struct err err = {0};

    (void)state;
    opts.cancelled = is_after;
    opts.arg = &cancel_at_ms;
    fetch = open_fetch(opts);
    peer_start(&peer, steps, ARRAY_LEN(steps));
    assert_int_equal(get(fetch, peer.url, &response, &err), ERR_CLOSED);
    cancel_at_ms = INT64_MAX;
    if (get(fetch, peer.url, &response, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(buf_text(&response.body), "ok");
    fetch_response_release(&response);
    fetch_free(fetch);
    peer_stop(&peer);
    assert_int_equal(peer.requests[1].connection, 2);
}

/* --- headers of the answer -------------------------------------------------------------------- */

static int64_t retry_after(const char *value)
{
    struct fetch_response response;
    char answer[512];
    int64_t ms;

    snprintf(answer, sizeof(answer),
             "HTTP/1.1 429 Too Many\r\nretry-after: %s\r\nContent-Length: 0\r\n\r\n", value);
    response = ask(answer);
    assert_int_equal(response.status, 429);
    ms = response.retry_after_ms;
    fetch_response_release(&response);
    return ms;
}

/* Symptom: "no memory for a request to …". */
static void fetch__a_header_without_end_is_told_of(void **state)
{
    static char answer[400 * 1024];
    const struct peer_step step = {answer, PEER_CLOSE, sizeof(answer)};
    int begun = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nX: ");

    (void)state;
    memset(answer + begun, 'x', sizeof(answer) - (size_t)begun);
    expect_error(plain_opts(), &step, ERR_IO, "a line of the answer's head is too long, or");
}

static void fetch__retry_after_is_seconds_or_a_date(void **state)
{
    time_t soon = time(NULL) + 30;
    char date[64];

    (void)state;
    assert_int_equal(retry_after("0"), 0);
    assert_int_equal(retry_after("7"), 7000);
    assert_int_equal(retry_after("   120  "), 120000);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&soon));
    assert_in_range(retry_after(date), 25000, 30000);
    assert_int_equal(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), 0);
    assert_int_equal(retry_after(""), -1);
    assert_int_equal(retry_after("-5"), -1);
    assert_int_equal(retry_after("soon"), -1);
    assert_int_equal(retry_after("1.5"), -1);
    assert_int_equal(retry_after("99999999999999999999"), -1);
    assert_int_equal(
        retry_after("a value that is much longer than any date that a server would ever send us"),
        -1);
}

static void fetch__the_request_id_is_kept(void **state)
{
    struct fetch_response response =
        ask("HTTP/1.1 500 Oh\r\nX-Request-Id:  req_01K  \r\nContent-Length: 0\r\n\r\n");
    char answer[512];

    (void)state;
    assert_string_equal(response.request_id, "req_01K");
    fetch_response_release(&response);
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 500 Oh\r\nX-Request-ID: %0200d\r\nContent-Length: 0\r\n\r\n", 0);
    response = ask(answer);
    assert_string_equal(response.request_id, "");
    fetch_response_release(&response);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static SSL_CTX *make_ctx(const struct cert *cert)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    assert_int_equal(SSL_CTX_use_certificate(ctx, cert->x509), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, cert->key), 1);
    return ctx;
}

/* A GET of the host with the roots that SSL_CERT_FILE names. */
static int get_by_tls(const char *host, const char *roots, struct err *err)
{
    struct fetch *fetch = open_fetch(plain_opts());
    struct fetch_response response;
    char url[128];
    int rc;

    if (roots)
        setenv("SSL_CERT_FILE", roots, 1);
    else
        unsetenv("SSL_CERT_FILE");
    snprintf(url, sizeof(url), "https://%s:%d/", host, peer.port);
    for (int i = 0; i < 2; i++) {
        rc = get(fetch, url, &response, err);
        if (rc < 0)
            break;
        assert_string_equal(buf_text(&response.body), "ok");
        fetch_response_release(&response);
    }
    fetch_free(fetch);
    unsetenv("SSL_CERT_FILE");
    return rc;
}

static void fetch__certificates_are_verified(void **state)
{
    const struct peer_step step = {OK(2) "ok", PEER_KEEP, 0};
    struct cert good = cert_new("one.example"), other = cert_new("one.example");
    SSL_CTX *ctx = make_ctx(&good);
    struct err err = {0};

    (void)state;
    cert_write(&good, "good.pem", "good.key");
    cert_write(&other, "other.pem", "other.key");
    peer_start_tls(&peer, &step, 1, ctx);

    assert_int_equal(get_by_tls("127.0.0.1", NULL, &err), ERR_IO);
    assert_non_null(strstr(err.text, "self"));
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_int_equal(get_by_tls("127.0.0.1", "other.pem", &err), ERR_IO);
    assert_int_equal(get_by_tls("127.0.0.1", "absent.pem", &err), ERR_IO);
    assert_non_null(strstr(err.text, "absent.pem"));
    assert_int_equal(peer.count, 0); /* the key went nowhere */

    if (get_by_tls("127.0.0.1", "good.pem", &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(peer.count, 2);
    assert_int_equal(peer.requests[0].connection, peer.requests[1].connection);

    assert_int_equal(get_by_tls("localhost", "good.pem", &err), ERR_IO); /* another name */
    assert_non_null(strstr(err.text, "localhost"));
    assert_int_equal(peer.count, 2);
    peer_stop(&peer);
    SSL_CTX_free(ctx);
    cert_free(&good);
    cert_free(&other);
}

static void fetch__plain_http_in_the_place_of_tls(void **state)
{
    const struct peer_step step = {OK(2) "ok", PEER_KEEP, 0};
    struct fetch_opts opts = plain_opts();
    struct fetch *fetch;
    struct fetch_response response;
    struct err err = {0};
    char url[128];

    (void)state;
    opts.timeout_ms = 300; /* the peer waits for the end of a head, which a TLS greeting hasn't */
    fetch = open_fetch(opts);
    peer_start(&peer, &step, 1);
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", peer.port);
    assert_int_equal(get(fetch, url, &response, &err), ERR_IO);
    fetch_free(fetch);
    peer_stop(&peer);
}

static int set_up(void **state)
{
    struct err err;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return fetch_set_up(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fetch__get_sends_what_belongs_to_it),
        cmocka_unit_test(fetch__methods_with_and_without_a_body),
        cmocka_unit_test(fetch__a_large_body_goes_whole),
        cmocka_unit_test(fetch__a_key_that_would_end_its_header_is_refused),
        cmocka_unit_test(fetch__urls_that_are_none),
        cmocka_unit_test(fetch__put_escaped_leaves_plain_characters),
        cmocka_unit_test(fetch__one_connection_serves_many_calls),
        cmocka_unit_test(fetch__nobody_listens),
        cmocka_unit_test(fetch__a_redirect_is_an_answer),
        cmocka_unit_test(fetch__answers_that_end_early),
        cmocka_unit_test(fetch__an_answer_up_to_max_bytes),
        cmocka_unit_test(fetch__no_answer_in_time),
        cmocka_unit_test(fetch__a_server_that_falls_silent_is_given_up),
        cmocka_unit_test(fetch__slow_is_not_silent),
        cmocka_unit_test(fetch__cancelled_within_a_fraction_of_a_second),
        cmocka_unit_test(fetch__a_cancelled_call_leaves_a_usable_client),
        cmocka_unit_test(fetch__a_header_without_end_is_told_of),
        cmocka_unit_test(fetch__retry_after_is_seconds_or_a_date),
        cmocka_unit_test(fetch__the_request_id_is_kept),
        cmocka_unit_test_setup_teardown(fetch__certificates_are_verified, enter_temp_dir,
                                        leave_temp_dir),
        cmocka_unit_test(fetch__plain_http_in_the_place_of_tls),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
