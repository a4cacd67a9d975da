/* SPDX-License-Identifier: MIT */
#include "workos/api.h"

#include "fetch/fetch.h"
#include "unit/fetch/peer.h"

#include <signal.h>
#include <time.h>

#define OK(body_len) "HTTP/1.1 200 OK\r\nContent-Length: " #body_len "\r\n\r\n"
#define PAGE OK(17) "{\"object\":\"list\"}"
#define KEY "sk_test_secret"

/* How much longer than the fastest a slow build on a busy machine may take. */
enum { PATIENCE_MS = 10000, TICK_MS = 20 }; /* a timer may be a tick early */

static struct peer peer; /* large: not on the stack */

static struct api_opts plain_opts(void)
{
    return (struct api_opts){
        .hostname = "127.0.0.1",
        .port = peer.port,
        .key = KEY,
        .phase = "test",
        .tries = 3,
        .timeout_ms = 5000,
    };
}

static struct api *open_api(struct api_opts opts)
{
    struct api *api = NULL;
    struct err err = {0};

    if (api_open(&api, &opts, &err) < 0)
        fail_msg("%s", err.text);
    return api;
}

/* One call, of steps that a peer of its own takes. The answer is the caller's. */
static int call(const struct peer_step *steps, size_t count, const char *method,
                struct api_answer *out, struct err *err)
{
    struct api *api;
    int rc;

    peer_start(&peer, steps, count);
    api = open_api(plain_opts());
    *err = (struct err){0};
    rc = api_call(api, method, "/organizations?limit=1", NULL, out, err);
    api_close(api);
    peer_stop(&peer);
    assert_null(strstr(err->text, KEY));
    return rc;
}

static void expect_page(const struct peer_step *steps, size_t count)
{
    struct api_answer answer;
    struct err err;

    if (call(steps, count, "GET", &answer, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(answer.status, 200);
    assert_true(json_equals(&answer.json, json_member(&answer.json, 0, "object"), "list"));
    assert_int_equal(peer.count, count);
    api_answer_release(&answer);
}

/* That answer again and again; requests: how often it was tried. */
static void expect_error(const char *head, const char *body, int code, int status, size_t requests,
                         const char *text)
{
    char answer_text[1024];
    struct api_answer answer;
    struct err err;
    int rc;

    snprintf(answer_text, sizeof(answer_text), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", head,
             strlen(body), body);
    rc = call(&(struct peer_step){.answer = answer_text}, 1, "GET", &answer, &err);
    if (rc != code || answer.status != status || peer.count != requests || !strstr(err.text, text))
        fail_msg("%d after %zu, status %d: %s\nwanted %d after %zu, status %d: %s", rc,
                 (size_t)peer.count, answer.status, err.text, code, requests, status, text);
    assert_non_null(strstr(err.text, "/organizations: "));
    api_answer_release(&answer);
}

static void api__a_call_as_it_should_be(void **state)
{
    static const struct peer_step steps[] = {
        {PAGE, PEER_KEEP, 0},
        {"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{\"id\":\"x\"}", PEER_KEEP, 0},
        {"HTTP/1.1 204 No Content\r\n\r\n", PEER_KEEP, 0},
    };
    struct buf body = BUF_INIT(100);
    struct api_answer answer;
    struct err err = {0};
    struct api *api;

    (void)state;
    peer_start(&peer, steps, ARRAY_LEN(steps));
    api = open_api(plain_opts());
    assert_int_equal(api_call(api, "GET", "/organizations?limit=1", NULL, &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    api_answer_release(&answer);
    buf_puts(&body, "{\"endpoint_url\":\"https://x\"}");
    assert_int_equal(api_call(api, "POST", "/webhook_endpoints", &body, &answer, &err), 0);
    assert_int_equal(answer.status, 201);
    assert_true(json_equals(&answer.json, json_member(&answer.json, 0, "id"), "x"));
    api_answer_release(&answer);
    assert_int_equal(api_call(api, "DELETE", "/webhook_endpoints/x", NULL, &answer, &err), 0);
    assert_int_equal(answer.status, 204);
    assert_int_equal(answer.json.count, 0);
    api_answer_release(&answer);
    api_close(api);
    peer_stop(&peer);
    assert_int_equal(peer.connections, 1);
    assert_int_equal(strncmp(peer.requests[0].text, "GET /organizations?limit=1 HTTP/1.1\r\n", 37),
                     0);
    assert_string_equal(peer_header(&peer.requests[0], "Authorization"), "Bearer " KEY);
    assert_non_null(strstr(peer_header(&peer.requests[0], "User-Agent"), "authkitd/"));
    assert_non_null(strstr(peer_header(&peer.requests[0], "User-Agent"), " (test)"));
    assert_string_equal(peer.requests[1].body, buf_text(&body));
    assert_string_equal(peer_header(&peer.requests[1], "Content-Type"), "application/json");
    buf_release(&body);
}

static void api__what_may_go_well_later_is_tried_again(void **state)
{
    static const struct peer_step busy[] = {
        {"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", PEER_KEEP, 0},
        {"HTTP/1.1 408 Slow\r\nContent-Length: 0\r\n\r\n", PEER_CLOSE, 0},
        {PAGE, PEER_KEEP, 0},
    };
    static const struct peer_step broken[] = {
        {OK(100) "{\"object\":", PEER_CLOSE, 0},
        {OK(12) "\"Ratelimited", PEER_KEEP, 0},
        {PAGE, PEER_KEEP, 0},
    };
    static const struct peer_step html[] = {
        {OK(15) "<html>No</html>", PEER_KEEP, 0},
        {"HTTP/1.1 502 Oh\r\nContent-Length: 4\r\n\r\n<br>", PEER_KEEP, 0},
        {PAGE, PEER_KEEP, 0},
    };

    (void)state;
    expect_page(busy, ARRAY_LEN(busy));
    expect_page(broken, ARRAY_LEN(broken));
    expect_page(html, ARRAY_LEN(html));
}

static void api__retry_after_is_heeded(void **state)
{
    char date[64], dated[256];
    time_t soon = time(NULL) + 2;
    struct peer_step steps[] = {
        {"HTTP/1.1 429 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", PEER_KEEP, 0},
        {PAGE, PEER_KEEP, 0},
    };
    int64_t started_ms = clock_mono_ms();

    (void)state;
    expect_page(steps, ARRAY_LEN(steps));
    assert_in_range(clock_mono_ms() - started_ms, 1000 - TICK_MS, 1000 + PATIENCE_MS);

    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&soon));
    snprintf(dated, sizeof(dated),
             "HTTP/1.1 503 No\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", date);
    steps[0].answer = dated;
    expect_page(steps, ARRAY_LEN(steps));
    assert_true(clock_wall_ms() >= (int64_t)soon * 1000);

    steps[0].answer = "HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    started_ms = clock_mono_ms();
    expect_page(steps, ARRAY_LEN(steps));
    assert_in_range(clock_mono_ms() - started_ms, 0, PATIENCE_MS);
}

static void api__patience_ends(void **state)
{
    (void)state;
    expect_error("429 Busy\r\nRetry-After: 0\r\nX-Request-ID: req_1", "\"Ratelimited\"", ERR_BUSY,
                 429, 3, "answered 429: \"Ratelimited\" (request req_1)");
    expect_error("500 Oh\r\nRetry-After: 0", "{\"message\":\"Ouch\"}", ERR_IO, 500, 3,
                 "answered 500: \"Ouch\"");
    expect_error("200 OK\r\nRetry-After: 0", "\"string\"", ERR_IO, 200, 3, "isn't a JSON object");
    expect_error("200 OK\r\nRetry-After: 0", "[{}]", ERR_IO, 200, 3, "isn't a JSON object");
    expect_error("200 OK\r\nRetry-After: 0", "", ERR_IO, 200, 3, "the answer is ");
    expect_error("200 OK\r\nRetry-After: 0", "{\"a\":1]", ERR_IO, 200, 3, "the answer is ");
}

static void api__a_refusal_is_final_and_says_why(void **state)
{
    (void)state;
    expect_error("401 No\r\nX-Request-ID: req_2", "{\"message\":\"Unauthorized\"}", ERR_INVALID,
                 401, 1,
                 "answered 401: \"Unauthorized\"; is WORKOS_API_KEY right? (request req_2)");
    expect_error("400 No", "{\"error\":\"x\",\"error_description\":\"Bad client\"}", ERR_INVALID,
                 400, 1, "answered 400: \"Bad client\"");
    expect_error("403 No", "{\"error\":\"Forbidden\"}", ERR_INVALID, 403, 1,
                 "answered 403: \"Forbidden\"");
    expect_error(
        "422 No",
        "{\"message\":\"Validation failed\",\"errors\":[{\"code\":\"r\",\"field\":\"events\"}]}",
        ERR_INVALID, 422, 1,
        "answered 422: \"Validation failed\" [{\"code\":\"r\",\"field\":\"events\"}]");
    expect_error("404 No", "<h1>\r\nGone\x80</h1>\n", ERR_INVALID, 404, 1,
                 "answered 404: <h1>  Gone?</h1> ");
    expect_error("302 No\r\nLocation: /", "", ERR_INVALID, 302, 1, "answered 302");
    /* Whoever repeats the key is not repeated. */
    expect_error("401 No", "no sk_test_secret, sk_test_secret", ERR_INVALID, 401, 1,
                 "no **************, **************");
}

/* Where the text is cut, half a key must not be left over. */
static void api__an_echoed_key_is_hidden(void **state)
{
    char body[400];

    (void)state;
    for (int before = 280; before < 310; before++) {
        struct peer_step step = {NULL, PEER_KEEP, 0};
        char answer_text[1024];
        struct api_answer answer;
        struct err err;

        snprintf(body, sizeof(body), "%0*d" KEY, before, 0);
        snprintf(answer_text, sizeof(answer_text),
                 "HTTP/1.1 400 No\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
        step.answer = answer_text;
        assert_int_equal(call(&step, 1, "GET", &answer, &err), ERR_INVALID);
        assert_null(strstr(err.text, "sk_"));
        api_answer_release(&answer);
    }
}

static void api__a_refusals_body_is_kept(void **state)
{
    static const struct peer_step object = {
        "HTTP/1.1 422 No\r\nContent-Length: 12\r\n\r\n{\"errors\":1}", PEER_KEEP, 0};
    static const struct peer_step text = {"HTTP/1.1 422 No\r\nContent-Length: 4\r\n\r\n\"no\"",
                                          PEER_KEEP, 0};
    struct api_answer answer;
    struct err err;

    (void)state;
    assert_int_equal(call(&object, 1, "POST", &answer, &err), ERR_INVALID);
    assert_int_not_equal(json_member(&answer.json, 0, "errors"), JSON_ABSENT);
    api_answer_release(&answer);
    assert_int_equal(call(&text, 1, "POST", &answer, &err), ERR_INVALID);
    assert_int_equal(answer.json.count, 0);
    assert_string_equal(buf_text(&answer.body), "\"no\"");
    api_answer_release(&answer);
}

static void api__nobody_is_there(void **state)
{
    struct api_answer answer;
    struct err err = {0};
    struct api *api;
    int64_t started_ms = clock_mono_ms();

    (void)state;
    peer_start(&peer, &(struct peer_step){.answer = PAGE}, 1);
    peer_stop(&peer);
    api = open_api(plain_opts());
    assert_int_equal(api_call(api, "GET", "/events", NULL, &answer, &err), ERR_IO);
    assert_int_equal(answer.status, 0);
    assert_non_null(strstr(err.text, "/events: "));
    /* Two pauses, of a quarter of a second at least. */
    assert_in_range(clock_mono_ms() - started_ms, 500 - TICK_MS, 1900 + PATIENCE_MS);
    api_answer_release(&answer);
    api_close(api);
}

static void api__no_answer_in_time_is_no_answer(void **state)
{
    static const struct peer_step steps[] = {{NULL, PEER_HANG, 0}, {PAGE, PEER_KEEP, 0}};
    struct api_opts opts;
    struct api_answer answer;
    struct err err = {0};
    struct api *api;

    (void)state;
    peer_start(&peer, steps, ARRAY_LEN(steps));
    opts = plain_opts();
    opts.timeout_ms = 300;
    api = open_api(opts);
    if (api_call(api, "GET", "/events", NULL, &answer, &err) < 0)
        fail_msg("%s", err.text);
    api_answer_release(&answer);
    api_close(api);
    peer_stop(&peer);
    assert_int_equal(peer.count, 2);
}

static bool is_after(void *arg)
{
    return clock_mono_ms() >= *(int64_t *)arg;
}

static void api__cancelled_within_a_fraction_of_a_second(void **state)
{
    static const struct peer_step steps[] = {
        {"HTTP/1.1 429 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n", PEER_KEEP, 0},
        {NULL, PEER_HANG, 0},
    };
    int64_t cancel_at_ms;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t best_ms = INT64_MAX;

        /* Of ten tries the fastest: a busy machine is not what this is about. */
        for (int try = 0; try < 10 && best_ms > 400; try++) {
            struct api_opts opts;
            struct api_answer answer;
            struct err err = {0};
            struct api *api;
            int64_t started_ms = clock_mono_ms();

            peer_start(&peer, &steps[i], 1);
            opts = plain_opts();
            opts.cancelled = is_after;
            opts.arg = &cancel_at_ms;
            api = open_api(opts);
            cancel_at_ms = started_ms + 100;
            assert_int_equal(api_call(api, "GET", "/events", NULL, &answer, &err), ERR_CLOSED);
            started_ms = clock_mono_ms() - started_ms;
            best_ms = started_ms < best_ms ? started_ms : best_ms;
            api_answer_release(&answer);
            api_close(api);
            peer_stop(&peer);
        }
        assert_in_range(best_ms, 50, 400);
    }
}

static void api__a_path_that_is_too_long(void **state)
{
    struct api_answer answer;
    struct err err = {0};
    struct api *api = open_api(plain_opts());
    char *path = calloc(1, 20001);

    (void)state;
    memset(path, 'x', 20000);
    path[0] = '/';
    assert_int_equal(api_call(api, "GET", path, NULL, &answer, &err), ERR_INVALID);
    api_answer_release(&answer);
    api_close(api);
    free(path);
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
        cmocka_unit_test(api__a_call_as_it_should_be),
        cmocka_unit_test(api__what_may_go_well_later_is_tried_again),
        cmocka_unit_test(api__retry_after_is_heeded),
        cmocka_unit_test(api__patience_ends),
        cmocka_unit_test(api__a_refusal_is_final_and_says_why),
        cmocka_unit_test(api__an_echoed_key_is_hidden),
        cmocka_unit_test(api__a_refusals_body_is_kept),
        cmocka_unit_test(api__nobody_is_there),
        cmocka_unit_test(api__no_answer_in_time_is_no_answer),
        cmocka_unit_test(api__cancelled_within_a_fraction_of_a_second),
        cmocka_unit_test(api__a_path_that_is_too_long),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
