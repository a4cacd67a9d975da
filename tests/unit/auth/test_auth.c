/* SPDX-License-Identifier: MIT */
#include "auth/auth.h"

#include "unit/auth/jwt.h"
#include "unit/fetch/peer.h"
#include "unit/store/temp_dir.h"

#include "base/log.h"
#include "fetch/fetch.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define ISSUER "https://api.workos.com"
#define HEADER "{\"alg\":\"RS256\",\"kid\":\"k1\"}"

enum { SOON_MS = 1000 };

static struct rsa_pair pair, stranger;
static char url[PATH_MAX + 64];
static struct peer peer; /* large: not on the stack */

/* Standard error goes into a pipe between listen_to_log and what_was_logged. */
static int real_stderr, ear;
static char heard[65536];

static void listen_to_log(enum log_level level)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    real_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    ear = ends[0];
    log_setup(level, LOG_FORMAT_TEXT);
}

static const char *what_was_logged(void)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(ear, heard + len, sizeof(heard) - 1 - len)) > 0)
        len += (size_t)n;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(ear);
    heard[len] = '\0';
    return heard;
}

static struct auth_opts usual(void)
{
    return (struct auth_opts){
        .jwks_url = url,
        .client_id = "client_1",
        .issuers = ISSUER "," ISSUER "/",
        .user_agent = "test/1",
    };
}

static struct auth *start(const struct auth_opts *opts)
{
    struct auth *auth = NULL;
    struct err err = {0};

    if (auth_start(&auth, opts, &err) < 0)
        fail_msg("%s", err.text);
    return auth;
}

/* "Bearer " and a token, whose claims are that and an "exp" so many seconds from now. */
static const char *bearer(const struct rsa_pair *by, const char *claims, int64_t seconds)
{
    static char header[JWT_MAX];
    struct buf token = BUF_INIT(JWT_MAX / 2);
    char all[1024];

    snprintf(all, sizeof(all), "{%s,\"exp\":%lld}", claims,
             (long long)(clock_wall_ms() / 1000 + seconds));
    jwt_put(&token, by, HEADER, all);
    snprintf(header, sizeof(header), "Bearer %s", token.data);
    buf_release(&token);
    return header;
}

#define CLAIMS "\"iss\":\"" ISSUER "\",\"sub\":\"user_1\",\"role\":\"admin\""

static void expect(struct auth *auth, const char *authorization, enum auth_status status,
                   const char *code)
{
    struct auth_session session;

    auth_check(auth, authorization, &session);
    if (session.status != status || strcmp(session.code, code) != 0)
        fail_msg("%.100s: %d %s, wanted %d %s", authorization, session.status, session.code, status,
                 code);
    assert_int_equal(session.message[0] != '\0', status != AUTH_OK);
    assert_int_equal(session.user_id != NULL, status == AUTH_OK);
    auth_session_release(&session);
    auth_session_release(&session);
}

static void auth__a_good_token(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);
    struct auth_session session;

    (void)state;
    auth_check(auth, bearer(&pair, CLAIMS, 300), &session);
    assert_int_equal(session.status, AUTH_OK);
    assert_string_equal(session.user_id, "user_1");
    assert_true(json_equals(&session.claims, json_member(&session.claims, 0, "role"), "admin"));
    assert_ptr_equal(session.claims.text, session.text.data);
    auth_session_release(&session);
    auth_stop(auth);
}

static void auth__codes(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);

    (void)state;
    expect(auth, bearer(&pair, CLAIMS, 300), AUTH_OK, "");
    expect(auth, bearer(&pair, CLAIMS, -59), AUTH_OK, "");
    expect(auth, bearer(&pair, CLAIMS, -62), AUTH_REFUSED, "token_expired");
    expect(auth, bearer(&pair, CLAIMS ",\"nbf\":9999999999", 300), AUTH_REFUSED,
           "token_not_yet_valid");
    expect(auth, bearer(&pair, CLAIMS ",\"iat\":9999999999", 300), AUTH_REFUSED,
           "token_not_yet_valid");
    /* All that a forger could try is one answer: also of a token that has expired, too. */
    expect(auth, bearer(&stranger, CLAIMS, 300), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&stranger, CLAIMS, -600), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&pair, "\"iss\":\"https://x\",\"sub\":\"user_1\"", -600), AUTH_REFUSED,
           "token_invalid");
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"x\"", 300), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&pair, CLAIMS ",\"client_id\":\"x\"", 300), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&pair, "\"iss\":\"" ISSUER "\"", 300), AUTH_REFUSED, "token_invalid");
    expect(auth, "Bearer a.b.c", AUTH_REFUSED, "token_invalid");
    expect(auth, "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6Ims5In0.e30.AAAA", AUTH_REFUSED,
           "token_invalid"); /* of an unknown key */
    expect(NULL, bearer(&pair, CLAIMS, 300), AUTH_UNAVAILABLE, "tokens_off");
    expect(NULL, NULL, AUTH_UNAVAILABLE, "tokens_off");
    auth_stop(auth);
}

/* The header around a token that is good. */
static void auth__headers(void **state)
{
    static const struct {
        const char *before, *behind;
        enum auth_status status;
        const char *code;
    } cases[] = {
        {"Bearer ", "", AUTH_OK, ""},
        {"bearer ", "", AUTH_OK, ""},
        {"BEARER   ", "", AUTH_OK, ""},
        {" Bearer ", " \t", AUTH_OK, ""},
        {"Bearer", "", AUTH_ABSENT, "token_missing"},
        {"", "", AUTH_ABSENT, "token_missing"},
        {"Basic ", "", AUTH_ABSENT, "token_missing"},
        {"Bearerx ", "", AUTH_ABSENT, "token_missing"},
        {"Bearer\t", "", AUTH_ABSENT, "token_missing"},
        {"Bearer: ", "", AUTH_ABSENT, "token_missing"},
        {"Bearer \t", "", AUTH_REFUSED, "token_invalid"},
        {"Bearer \"", "\"", AUTH_REFUSED, "token_invalid"},
        {"Bearer ", ", Bearer x", AUTH_REFUSED, "token_invalid"},
        {"Bearer Bearer ", "", AUTH_REFUSED, "token_invalid"},
        {"Bearer token=", "", AUTH_REFUSED, "token_invalid"},
    };
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);
    char token[4096], header[5000];

    (void)state;
    snprintf(token, sizeof(token), "%s", bearer(&pair, CLAIMS, 300) + strlen("Bearer "));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(header, sizeof(header), "%s%s%s", cases[i].before, token, cases[i].behind);
        expect(auth, header, cases[i].status, cases[i].code);
    }
    expect(auth, NULL, AUTH_ABSENT, "token_missing");
    expect(auth, "", AUTH_ABSENT, "token_missing");
    expect(auth, "Bearer", AUTH_ABSENT, "token_missing");
    expect(auth, "Bearer ", AUTH_ABSENT, "token_missing");
    expect(auth, "Bearer  \t ", AUTH_ABSENT, "token_missing");
    auth_stop(auth);
}

static void auth__audiences_are_the_client_id_unless_told(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);

    (void)state;
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"client_1\"", 300), AUTH_OK, "");
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"api://x\"", 300), AUTH_REFUSED, "token_invalid");
    auth_stop(auth);
    opts.audiences = "api://x, api://y";
    auth = start(&opts);
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"client_1\"", 300), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"api://y\"", 300), AUTH_OK, "");
    auth_stop(auth);
    opts.audiences = opts.client_id = NULL;
    auth = start(&opts);
    expect(auth, bearer(&pair, CLAIMS ",\"aud\":\"client_1\"", 300), AUTH_REFUSED, "token_invalid");
    expect(auth, bearer(&pair, CLAIMS ",\"client_id\":\"any\"", 300), AUTH_OK, "");
    auth_stop(auth);
}

/* ---------------------------------------------------------------------------------- the log */

static void auth__the_log_says_what_to_mend(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);
    const char *text;

    (void)state;
    expect(auth, bearer(&pair, CLAIMS, 300), AUTH_OK, ""); /* the keys are there */
    listen_to_log(LOG_LEVEL_WARN);
    for (int i = 0; i < 20; i++)
        expect(auth, bearer(&pair, "\"iss\":\"https://other.example\",\"sub\":\"user_1\"", 300),
               AUTH_REFUSED, "token_invalid");
    text = what_was_logged();
    assert_non_null(strstr(text, "WARN"));
    assert_non_null(strstr(text, "https://other.example"));
    assert_non_null(strstr(text, "option=--issuer"));
    assert_in_range(strlen(text), 1, 1000); /* once a second, not once a token */
    auth_stop(auth);
}

/* WorkOS dates its tokens with the present: whoever takes that for the future has a wrong clock. */
static void auth__the_log_says_that_the_clock_is_behind(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);
    char claims[200];
    const char *text;

    (void)state;
    expect(auth, bearer(&pair, CLAIMS, 300), AUTH_OK, ""); /* the keys are there */
    usleep(1100 * 1000); /* a test before this one may have had it said */
    snprintf(claims, sizeof(claims), CLAIMS ",\"nbf\":%lld", (long long)time(NULL) + 200);
    listen_to_log(LOG_LEVEL_WARN);
    for (int i = 0; i < 20; i++)
        expect(auth, bearer(&pair, claims, 300), AUTH_REFUSED, "token_not_yet_valid");
    text = what_was_logged();
    assert_non_null(strstr(text, "this machine's clock is behind"));
    assert_in_range(strlen(text), 1, 1000); /* once a second, not once a token */
    auth_stop(auth);
}

/* What strangers send shall not fill the log; nor does the log help them who read over its shoulder. */
static void auth__of_forgeries_the_log_knows_at_debug(void **state)
{
    static const enum log_level levels[] = {LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};
    struct auth_opts opts = usual();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        struct auth *auth = start(&opts);
        const char *header = bearer(&stranger, CLAIMS, 300), *text;

        expect(auth, bearer(&pair, CLAIMS, 300), AUTH_OK, "");
        listen_to_log(levels[i]);
        header = bearer(&stranger, CLAIMS, 300);
        expect(auth, header, AUTH_REFUSED, "token_invalid");
        text = what_was_logged();
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        if (levels[i] == LOG_LEVEL_DEBUG)
            assert_non_null(strstr(text, "the signature isn't that of the key"));
        else
            assert_string_equal(text, "");
        assert_null(strstr(text, header + 60));
        auth_stop(auth);
    }
}

/* ---------------------------------------------------------------------------------- no keys */

static void auth__no_keys_is_no_refusal(void **state)
{
    static const struct peer_step step = {"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
                                          PEER_KEEP, 0};
    struct auth_opts opts = usual();
    struct auth *auth;

    (void)state;
    peer_start(&peer, &step, 1);
    opts.jwks_url = peer.url;
    auth = start(&opts);
    expect(auth, bearer(&pair, CLAIMS, 300), AUTH_UNAVAILABLE, "keys_unavailable");
    expect(auth, bearer(&stranger, CLAIMS, 300), AUTH_UNAVAILABLE, "keys_unavailable");
    /* What no key would make better needs none. */
    expect(auth, "Bearer a.b.c", AUTH_REFUSED, "token_invalid");
    expect(auth, NULL, AUTH_ABSENT, "token_missing");
    auth_stop(auth);
    peer_stop(&peer);
}

static void auth__a_server_that_stops(void **state)
{
    static const struct peer_step step = {"", PEER_HANG, 0};
    struct auth_opts opts = usual();
    int64_t start_ms;
    struct auth *auth;

    (void)state;
    peer_start(&peer, &step, 1);
    opts.jwks_url = peer.url;
    auth = start(&opts);
    while (peer.count < 1)
        poll(NULL, 0, 5);
    start_ms = clock_mono_ms();
    auth_refuse(auth);
    auth_refuse(NULL);
    expect(auth, bearer(&pair, CLAIMS, 300), AUTH_UNAVAILABLE, "keys_unavailable");
    auth_stop(auth);
    auth_stop(NULL);
    assert_in_range(clock_mono_ms() - start_ms, 0, SOON_MS);
    peer_stop(&peer);
}

static void auth__a_wrong_url(void **state)
{
    struct auth_opts opts = usual();
    struct auth *auth = NULL;
    struct err err;

    (void)state;
    opts.jwks_url = "keys.json";
    assert_int_equal(auth_start(&auth, &opts, &err), ERR_INVALID);
    assert_null(auth);
    assert_non_null(strstr(err.text, "'keys.json'"));
}

/* ---------------------------------------------------------------------------------- threads */

struct caller {
    struct auth *auth;
    const char *header;
    enum auth_status wanted;
    atomic_int wrong;
};

static void *call_again_and_again(void *arg)
{
    struct caller *caller = arg;

    for (int i = 0; i < 100; i++) {
        struct auth_session session;

        auth_check(caller->auth, caller->header, &session);
        caller->wrong += session.status != caller->wanted;
        auth_session_release(&session);
    }
    return NULL;
}

static void auth__many_threads_at_once(void **state)
{
    enum { THREADS = 4 };
    struct auth_opts opts = usual();
    struct auth *auth = start(&opts);
    char *good = strdup(bearer(&pair, CLAIMS, 300)), *bad = strdup(bearer(&stranger, CLAIMS, 300));
    struct caller callers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){
            .auth = auth, .header = i % 2 ? bad : good, .wanted = i % 2 ? AUTH_REFUSED : AUTH_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, call_again_and_again, &callers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].wrong, 0);
    }
    auth_stop(auth);
    free(good);
    free(bad);
}

static int set_up(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    char dir[PATH_MAX];
    struct err err;
    FILE *file;

    signal(SIGPIPE, SIG_IGN);
    pair = rsa_pair_new(2048);
    stranger = rsa_pair_new(2048);
    if (enter_temp_dir(state) < 0 || !getcwd(dir, sizeof(dir)))
        return -1;
    snprintf(url, sizeof(url), "file://%s/keys.json", dir);
    jwt_put_set(&text, &pair, "k1");
    file = fopen("keys.json", "w");
    if (!file)
        return -1;
    fputs(text.data, file);
    fclose(file);
    buf_release(&text);
    return fetch_set_up(&err);
}

static int tear_down(void **state)
{
    rsa_pair_free(&pair);
    rsa_pair_free(&stranger);
    return leave_temp_dir(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auth__the_log_says_what_to_mend), /* before others use that second up */
        cmocka_unit_test(auth__a_good_token),
        cmocka_unit_test(auth__codes),
        cmocka_unit_test(auth__headers),
        cmocka_unit_test(auth__audiences_are_the_client_id_unless_told),
        cmocka_unit_test(auth__the_log_says_that_the_clock_is_behind),
        cmocka_unit_test(auth__of_forgeries_the_log_knows_at_debug),
        cmocka_unit_test(auth__no_keys_is_no_refusal),
        cmocka_unit_test(auth__a_server_that_stops),
        cmocka_unit_test(auth__a_wrong_url),
        cmocka_unit_test(auth__many_threads_at_once),
    };

    return cmocka_run_group_tests_name("auth", tests, set_up, tear_down);
}
