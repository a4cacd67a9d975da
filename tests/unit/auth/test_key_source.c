/* SPDX-License-Identifier: MIT */
#include "auth/key_source.h"

#include "unit/auth/jwt.h"
#include "unit/fetch/peer.h"
#include "unit/store/temp_dir.h"

#include "fetch/fetch.h"

#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

static struct rsa_pair pair;
static struct buf jwks;
static struct peer peer; /* large: not on the stack */

static int read_from(const char *url, struct key_set **out, int64_t *out_later_ms, struct err *err)
{
    const struct key_source_opts opts = {.url = url, .user_agent = "test/1"};
    struct key_source *source = NULL;
    int rc = key_source_open(&source, &opts, err);

    *out = NULL;
    if (rc == 0)
        rc = key_source_read(source, out, out_later_ms, err);
    key_source_close(source);
    return rc;
}

static void reads(const char *url)
{
    struct key_set *set;
    struct err err = {0};
    int64_t later_ms;

    if (read_from(url, &set, &later_ms, &err) < 0)
        fail_msg("%s: %s", url, err.text);
    assert_true(key_set_has(set, "k1"));
    key_set_release(set);
}

static void fails(const char *url, int code, const char *wanted)
{
    struct key_set *set;
    struct err err = {0};
    int64_t later_ms = 0;
    int rc = read_from(url, &set, &later_ms, &err);

    if (rc != code || set || !strstr(err.text, wanted))
        fail_msg("%s: %d: %s\nwanted %d: %s", url, rc, err.text, code, wanted);
}

static void write_file(const char *name, const char *bytes, size_t len)
{
    FILE *file = fopen(name, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

/* "file:" and the slashes, before a path in the test's own directory. */
static const char *file_url(const char *start, const char *name)
{
    static char url[PATH_MAX + 64];
    char dir[PATH_MAX];

    assert_non_null(getcwd(dir, sizeof(dir)));
    snprintf(url, sizeof(url), "%s%s/%s", start, dir, name);
    return url;
}

static void key_source__urls(void **state)
{
    static const struct {
        const char *url, *wanted; /* NULL: fine */
    } cases[] = {
        {"https://api.workos.com/sso/jwks/client_1", NULL},
        {"HTTPS://api.workos.com/sso/jwks/client_1", NULL},
        {"http://localhost:4100/sso/jwks/client_1?x=%20", NULL},
        {"http://[::1]:4100/", NULL},
        {"https://h", NULL},
        {"file:/etc/keys.json", NULL},
        {"file:///etc/keys.json", NULL},
        {"FILE:///etc/keys.json", NULL},
        {"", "begins with https://"},
        {"api.workos.com/sso/jwks", "begins with https://"},
        {"/etc/keys.json", "begins with https://"},
        {"ftp://h/keys", "begins with https://"},
        {"https://", "begins with https://"},
        {"https:///keys", "begins with https://"},
        {"https://:443/keys", "begins with https://"},
        {"https:/h/keys", "begins with https://"},
        {"https://me:word@h/keys", "without a name and password"},
        {"https://h/keys#1", "without '#'"},
        {"https://h/a b", "without spaces"},
        {"https://h/a\n", "without spaces"},
        {"https://h/\xC3\xA4", "without spaces"},
        {"file:", "its whole path"},
        {"file:keys.json", "its whole path"},
        {"file://keys.json", "its whole path"},
        {"file://host/keys.json", "its whole path"},
        {"file:////keys.json", "its whole path"},
        {"file:///a%20b", "as it is written"},
        {"file:///a?b", "as it is written"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *fault = key_source_fault(cases[i].url);

        if (!fault != !cases[i].wanted || (fault && !strstr(fault, cases[i].wanted)))
            fail_msg("'%s': %s, wanted %s", cases[i].url, fault, cases[i].wanted);
    }
    fails("ftp://h/", ERR_INVALID, "keys can't be read from 'ftp://h/': it must be a URL");
}

static void key_source__open_to_others(void **state)
{
    (void)state;
    assert_true(key_source_is_open_to_others("http://api.workos.com/"));
    assert_true(key_source_is_open_to_others("http://localhost.example/"));
    assert_true(key_source_is_open_to_others("http://127.0.0.1.example/"));
    assert_false(key_source_is_open_to_others("https://api.workos.com/"));
    assert_false(key_source_is_open_to_others("http://localhost/"));
    assert_false(key_source_is_open_to_others("HTTP://LOCALHOST:80"));
    assert_false(key_source_is_open_to_others("http://127.0.0.1:4100/x"));
    assert_false(key_source_is_open_to_others("http://[::1]:4100/x"));
    assert_false(key_source_is_open_to_others("file:///keys"));
}

static void key_source__a_file(void **state)
{
    (void)state;
    write_file("keys.json", jwks.data, jwks.len);
    reads(file_url("file:", "keys.json"));
    reads(file_url("file://", "keys.json"));
    reads(file_url("FILE:", "keys.json"));
    assert_int_equal(symlink("keys.json", "link.json"), 0);
    reads(file_url("file:", "link.json"));
    fails(file_url("file:", "absent.json"), ERR_IO, "absent.json': No such file");
    write_file("empty.json", "", 0);
    fails(file_url("file:", "empty.json"), ERR_INVALID, "empty.json: not valid JSON");
    write_file("other.json", "{}", 2);
    fails(file_url("file:", "other.json"), ERR_INVALID, "it isn't a JWKS");
}

/* A path that leads to a device or a pipe must neither hang nor be read for ever. */
static void key_source__what_is_no_regular_file(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    fails(file_url("file:", "pipe"), ERR_IO, "pipe' isn't a regular file");
    fails(file_url("file:", ""), ERR_IO, "isn't a regular file");
    fails("file:///dev/zero", ERR_IO, "isn't a regular file");
}

static void key_source__sizes_of_files(void **state)
{
    struct buf text = BUF_INIT(2 * KEY_SOURCE_MAX_BYTES);

    (void)state;
    buf_put(&text, jwks.data, jwks.len);
    while (text.len < KEY_SOURCE_MAX_BYTES)
        buf_putc(&text, ' ');
    write_file("large.json", text.data, text.len);
    reads(file_url("file:", "large.json"));
    buf_putc(&text, ' ');
    write_file("large.json", text.data, text.len);
    fails(file_url("file:", "large.json"), ERR_LIMIT, "is larger than 262144 bytes");
    buf_release(&text);
}

static void key_source__over_http(void **state)
{
    struct buf answer = BUF_INIT(JWT_MAX);
    char url[128];

    (void)state;
    buf_printf(&answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", jwks.len, jwks.data);
    peer_start(&peer, &(struct peer_step){.answer = answer.data}, 1);
    snprintf(url, sizeof(url), "%s/sso/jwks/client_1", peer.url);
    reads(url);
    peer_stop(&peer);
    assert_int_equal(strncmp(peer.requests[0].text, "GET /sso/jwks/client_1 HTTP/1.1\r\n", 33), 0);
    assert_string_equal(peer_header(&peer.requests[0], "User-Agent"), "test/1");
    assert_null(peer_header(&peer.requests[0], "Authorization"));
    buf_release(&answer);
}

static void key_source__answers_that_are_no_keys(void **state)
{
    static const struct {
        const char *answer;
        int code;
        const char *wanted;
    } cases[] = {
        {"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", ERR_IO, "/jwks: the answer is 500"},
        {"HTTP/1.1 404 No\r\nContent-Length: 0\r\nX-Request-ID: req_7\r\n\r\n", ERR_IO,
         "the answer is 404 (request req_7)"},
        {"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n", ERR_BUSY, "429"},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", ERR_IO, "302"},
        {"HTTP/1.1 204 No Content\r\n\r\n", ERR_IO, "204"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", ERR_INVALID, "not valid JSON"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}", ERR_INVALID, "is empty"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", ERR_IO, "/jwks: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer_step step = {.answer = cases[i].answer, .then = PEER_CLOSE};
        char url[128];

        peer_start(&peer, &step, 1);
        snprintf(url, sizeof(url), "%s/jwks?secret=hidden", peer.url);
        fails(url, cases[i].code, cases[i].wanted);
        peer_stop(&peer);
    }
}

static void key_source__an_answer_without_end(void **state)
{
    static char answer[300000];
    const struct peer_step step = {.answer = answer, .then = PEER_CLOSE, .len = sizeof(answer)};

    (void)state;
    memset(answer, ' ', sizeof(answer));
    memcpy(answer, "HTTP/1.1 200 OK\r\n\r\n", 19);
    peer_start(&peer, &step, 1);
    fails(peer.url, ERR_LIMIT, "larger than 262144 bytes");
    peer_stop(&peer);
}

static void key_source__when_to_ask_again(void **state)
{
    struct peer_step step = {.answer = "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n"
                                       "Retry-After: 7\r\n\r\n"};
    struct key_set *set;
    int64_t later_ms;
    struct err err;

    (void)state;
    peer_start(&peer, &step, 1);
    assert_int_equal(read_from(peer.url, &set, &later_ms, &err), ERR_IO);
    assert_int_equal(later_ms, 7000);
    peer_stop(&peer);
    write_file("keys.json", jwks.data, jwks.len);
    assert_int_equal(read_from(file_url("file:", "keys.json"), &set, &later_ms, &err), 0);
    assert_int_equal(later_ms, -1);
    key_set_release(set);
}

static int set_up(void **state)
{
    struct err err;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    pair = rsa_pair_new(2048);
    jwks = BUF_INIT(JWT_MAX);
    jwt_put_set(&jwks, &pair, "k1");
    return fetch_set_up(&err);
}

static int tear_down(void **state)
{
    (void)state;
    rsa_pair_free(&pair);
    buf_release(&jwks);
    return 0;
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_source__urls),
        cmocka_unit_test(key_source__open_to_others),
        IN_TEMP_DIR(key_source__a_file),
        IN_TEMP_DIR(key_source__what_is_no_regular_file),
        IN_TEMP_DIR(key_source__sizes_of_files),
        cmocka_unit_test(key_source__over_http),
        cmocka_unit_test(key_source__answers_that_are_no_keys),
        cmocka_unit_test(key_source__an_answer_without_end),
        IN_TEMP_DIR(key_source__when_to_ask_again),
    };

    return cmocka_run_group_tests_name("key_source", tests, set_up, tear_down);
}
