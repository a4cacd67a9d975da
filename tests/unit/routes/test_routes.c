/* SPDX-License-Identifier: MIT */
#include "unit/routes/site.h"

#include "base/thread.h"
#include "routes/readers.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char script_text[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { notes = { columns = { text = 'text' } } }\n"
    "authkit.routes {\n"
    "  ['GET /count'] = function(ctx) return ctx.db.query('notes'):count() end,\n"
    "  ['POST /notes'] = function(ctx, request)\n"
    "    return 201, { id = ctx.db.insert('notes', { text = request.body }) }\n"
    "  end,\n"
    "  ['PUT /broken'] = function(ctx)\n"
    "    ctx.db.insert('notes', { text = 'lost' })\n"
    "    error('secret words')\n"
    "  end,\n"
    "  ['DELETE /mine'] = function(ctx)\n"
    "    ctx.db.insert('notes', { text = 'lost' })\n"
    "    ctx.auth.require()\n"
    "  end,\n"
    "  ['GET /writes'] = function(ctx) ctx.db.insert('notes', { text = 'x' }) end,\n"
    "  ['GET /loop'] = function() while true do end end,\n"
    "  ['POST /lost'] = function(ctx)\n"
    "    ctx.db.insert('notes', { text = 'lost' })\n"
    "    pcall(ctx.db.sql, 'INSERT OR ROLLBACK INTO notes (_id, _creation_time, text)'\n"
    "      .. ' SELECT _id, 0, text FROM notes')\n"
    "  end,\n"
    "  ['POST /once'] = function()\n"
    "    runs = (runs or 0) + 1\n"
    "    assert(runs == 1, 'run again')\n"
    "    return 200, '<p>', { ['content-type'] = 'text/html' }\n"
    "  end,\n"
    "  ['GET /fails/:what'] = function() error('it fails') end,\n"
    "}\n";

static void start(struct site *site)
{
    site_start(site, script_text);
}

static void routes__what_is_nobodys_is_not_found(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    assert_non_null(strstr(site_ask(&site, "GET", "/", ""), "not_found"));
    assert_int_equal(site_status(&site), 404);
    (void)site_ask(&site, "GET", "/count/", "");
    assert_int_equal(site_status(&site), 404);
    site_stop(&site);
}

static void routes__another_method_is_told_which_ones_there_are(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    (void)site_ask(&site, "DELETE", "/count", "");
    assert_int_equal(site_status(&site), 405);
    assert_string_equal(exchange_header(&site.exchange, "Allow"), "GET, HEAD, OPTIONS");
    (void)site_ask(&site, "OPTIONS", "/notes", "");
    assert_int_equal(site_status(&site), 204);
    assert_string_equal(exchange_header(&site.exchange, "Allow"), "POST, OPTIONS");
    (void)site_ask(&site, "OPTIONS", "/nowhere", "");
    assert_int_equal(site_status(&site), 404);
    site_stop(&site);
}

static void routes__what_is_answered_is_committed(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    assert_string_equal(site_ask(&site, "POST", "/notes", "one"), "{\"id\":1}");
    assert_int_equal(site_status(&site), 201);
    assert_string_equal(value_of("SELECT text FROM notes"), "one");
    assert_string_equal(site_ask(&site, "GET", "/count", ""), "1");
    assert_string_equal(exchange_header(&site.exchange, "Cache-Control"), "private, no-cache");
    site_stop(&site);
}

static void routes__a_failure_is_undone_and_shows_nothing(void **state)
{
    struct site site;
    const char *id;

    (void)state;
    start(&site);
    assert_null(strstr(site_ask(&site, "PUT", "/broken", ""), "secret"));
    assert_int_equal(site_status(&site), 500);
    id = exchange_header(&site.exchange, "X-Request-ID");
    assert_int_equal(strlen(id), 16);
    assert_non_null(strstr(buf_text(&site.exchange.response.body), id));
    assert_string_equal(site_ask(&site, "GET", "/count", ""), "0");
    site_stop(&site);
}

static void routes__who_is_refused_has_written_nothing(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    (void)site_ask(&site, "DELETE", "/mine", "");
    assert_int_equal(site_status(&site), 503); /* no tokens are taken here */
    assert_non_null(strstr(buf_text(&site.exchange.response.body), "tokens_off"));
    assert_string_equal(site_ask(&site, "GET", "/count", ""), "0");
    site_stop(&site);
}

static void routes__reading_cannot_write(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    (void)site_ask(&site, "GET", "/writes", "");
    assert_int_equal(site_status(&site), 500);
    assert_string_equal(site_ask(&site, "GET", "/count", ""), "0");
    site_stop(&site);
}

static void routes__an_endless_loop_ends_and_the_place_is_good_again(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    for (int i = 0; i < 3; i++) {
        (void)site_ask(&site, "GET", "/loop", "");
        assert_int_equal(site_status(&site), 500);
        assert_string_equal(site_ask(&site, "GET", "/count", ""), "0");
        assert_int_equal(site_status(&site), 200);
    }
    site_stop(&site);
}

static void routes__the_user_path_takes_reading_only(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    (void)site_ask(&site, "POST", "/workos/user", "");
    assert_int_equal(site_status(&site), 405);
    (void)site_ask(&site, "GET", "/workos/user", "");
    assert_int_equal(site_status(&site), 503);
    assert_string_equal(exchange_header(&site.exchange, "Retry-After"), "1");
    site_stop(&site);
}

/* --- what goes wrong behind the function ------------------------------------------------------ */

/* It is the function's doing, and it would be the same the next time. */
static void routes__a_transaction_that_a_function_lost_is_its_failure(void **state)
{
    struct site site;

    (void)state;
    start(&site);
    (void)site_ask(&site, "POST", "/lost", "");
    assert_int_equal(site_status(&site), 500);
    assert_non_null(exchange_header(&site.exchange, "X-Request-ID"));
    assert_string_equal(site_ask(&site, "GET", "/count", ""), "0");
    site_stop(&site);
}

/* The writer, held up until the test lets go of it. */
struct hold {
    struct workos_call call;
    struct workos *workos;
    sem_t held, go;
};

static int hold_writer(struct workos_call *call, struct script *script, struct db *db,
                       struct err *err)
{
    struct hold *hold = (struct hold *)call;

    (void)script, (void)db, (void)err;
    sem_post(&hold->held);
    sem_wait(&hold->go);
    return 0;
}

static void *run_hold(void *arg)
{
    struct hold *hold = arg;
    struct err err;

    assert_int_equal(workos_run(hold->workos, &hold->call, &err), 0);
    return NULL;
}

struct posting {
    struct site *site;
    struct exchange x;
};

static void *run_posting(void *arg)
{
    struct posting *posting = arg;

    site_serve(posting->site, &posting->x);
    return NULL;
}

/* The answer that it had made is of another type than the one that it gets. */
static void routes__one_that_fails_when_it_runs_again_is_a_clean_failure(void **state)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    struct hold hold = {.call = {.name = "hold", .run = hold_writer}};
    struct posting postings[2];
    pthread_t holder, threads[2];
    struct site site;
    struct err err;

    (void)state;
    start(&site);
    hold.workos = site.service.workos;
    sem_init(&hold.held, 0, 0);
    sem_init(&hold.go, 0, 0);
    assert_int_equal(thread_start(&holder, "holder", run_hold, &hold, &err), 0);
    sem_wait(&hold.held);
    for (int i = 0; i < 2; i++) { /* they come into one batch, in which the other one undoes it */
        postings[i].site = &site;
        postings[i].x = exchange_new("POST", i == 0 ? "/once" : "/lost");
        assert_int_equal(thread_start(&threads[i], "post", run_posting, &postings[i], &err), 0);
        nanosleep(&pause, NULL);
    }
    sem_post(&hold.go);
    pthread_join(holder, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(postings[i].x.response.status, 500);
        assert_string_equal(http_response_type(&postings[i].x.response), "application/json");
        exchange_release(&postings[i].x);
    }
    sem_destroy(&hold.held);
    sem_destroy(&hold.go);
    site_stop(&site);
}

/* Whoever asks must not be able to keep from the log what went wrong. */
static void routes__a_long_path_leaves_room_in_the_log(void **state)
{
    static char path[15000] = "/fails/", log[65536];
    int fd = open("log", O_RDWR | O_CREAT, 0600), stderr_fd = dup(STDERR_FILENO);
    struct site site;
    const char *id;

    (void)state;
    memset(path + strlen(path), '"', sizeof(path) - strlen(path) - 1);
    start(&site);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    dup2(fd, STDERR_FILENO);
    (void)site_ask(&site, "GET", path, "");
    dup2(stderr_fd, STDERR_FILENO);
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    assert_int_equal(site_status(&site), 500);
    assert_true(pread(fd, log, sizeof(log) - 1, 0) > 0);
    id = exchange_header(&site.exchange, "X-Request-ID");
    assert_non_null(strstr(log, id));
    assert_non_null(strstr(log, "it fails"));
    close(fd);
    close(stderr_fd);
    site_stop(&site);
}

/* --- a new script while requests come --------------------------------------------------------- */

/* Each script asks for the column that only its own schema has: n rises with every script. */
static void versioned_script(char *out, size_t size, int n)
{
    snprintf(out, size,
             "local authkit = require 'authkit'\n"
             "authkit.schema { notes_%d = { columns = { text = 'text' } } }\n"
             "authkit.routes {\n"
             "  ['GET /version'] = function(ctx)\n"
             "    ctx.db.query('notes_%d'):all()\n"
             "    return %d\n"
             "  end,\n"
             "  ['POST /version'] = function(ctx)\n"
             "    ctx.db.insert('notes_%d', { text = 'x' })\n"
             "    return %d\n"
             "  end,\n"
             "}\n",
             n, n, n, n, n);
}

struct asker {
    struct site *site;
    const char *method;
    atomic_bool *stop;
    int answers, failures;
    bool went_back;
};

static void *ask_on(void *arg)
{
    struct asker *asker = arg;
    int newest = 0;

    while (!atomic_load(asker->stop)) {
        struct exchange x = exchange_new(asker->method, "/version");
        int version;

        site_serve(asker->site, &x);
        version = atoi(buf_text(&x.response.body));
        asker->answers++;
        asker->failures += x.response.status != 200;
        asker->went_back = asker->went_back || version < newest;
        newest = version;
        exchange_release(&x);
    }
    return NULL;
}

static void routes__a_reload_drops_no_request_and_never_goes_back(void **state)
{
    enum { ASKERS = 4, SCRIPTS = 20 };
    struct asker askers[ASKERS];
    pthread_t threads[ASKERS];
    char text[2048];
    atomic_bool stop = false;
    struct site site;
    struct err err;

    (void)state;
    versioned_script(text, sizeof(text), 1);
    site_start(&site, text);
    for (int i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){.site = &site, .method = i == 0 ? "POST" : "GET", .stop = &stop};
        assert_int_equal(thread_start(&threads[i], "asker", ask_on, &askers[i], &err), 0);
    }
    for (int n = 2; n <= SCRIPTS; n++) {
        versioned_script(text, sizeof(text), n);
        install_script(&site.service, text, 1000);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < ASKERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(askers[i].answers > 0);
        assert_int_equal(askers[i].failures, 0);
        assert_false(askers[i].went_back);
    }
    snprintf(text, sizeof(text), "%d", SCRIPTS);
    assert_string_equal(site_ask(&site, "GET", "/version", ""), text);
    site_stop(&site);
}

/* --- reads that overlap without end ----------------------------------------------------------- */

static int64_t wal_bytes(void)
{
    struct stat st;

    return stat("test.db-wal", &st) == 0 ? st.st_size : 0;
}

static void *ask_again(void *arg)
{
    static const char *const paths[] = {"/slow", "/notes"};
    struct asker *asker = arg;
    bool writes = strcmp(asker->method, "POST") == 0;

    while (!atomic_load(asker->stop)) {
        struct exchange x = exchange_new(asker->method, paths[writes]);

        site_serve(asker->site, &x);
        asker->answers++;
        asker->failures += x.response.status != 204;
        exchange_release(&x);
    }
    return NULL;
}

/* Whether the log becomes larger, or smaller, than what sets off a pause. */
static bool wal_passes(bool larger)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int64_t deadline_ms = clock_mono_ms() + SERVICE_PATIENCE_MS;

    while ((wal_bytes() > READERS_WAL_MAX) != larger) {
        if (clock_mono_ms() > deadline_ms)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* It grew as long as there was a snapshot at every moment, until the disk was full. Three that read see to
 * that; more would only keep the processors from those that write. */
static void routes__slow_reads_do_not_let_the_log_grow_without_end(void **state)
{
    enum { ASKERS = 5, WRITERS = 2 };
    struct asker askers[ASKERS];
    pthread_t threads[ASKERS];
    atomic_bool stop = false;
    bool has_grown, has_shrunk;
    struct site site;
    struct err err;

    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* the bytes of such a log take ten seconds; pauses under threads are in test_readers.c */
#endif
    site_start(&site, "local authkit = require 'authkit'\n"
                      "authkit.schema { notes = { columns = { text = 'text' } } }\n"
                      "authkit.routes {\n"
                      "  ['GET /slow'] = function(ctx)\n"
                      "    ctx.db.query('notes'):first()\n"
                      "    local till = ctx.now() + 400\n"
                      "    while ctx.now() < till do end\n"
                      "  end,\n"
                      "  ['POST /notes'] = function(ctx, request)\n"
                      "    local text = ('x'):rep(200000)\n"
                      "    for _ = 1, 4 do ctx.db.insert('notes', { text = text }) end\n"
                      "  end,\n"
                      "}\n");
    for (int i = 0; i < ASKERS; i++) {
        askers[i] =
            (struct asker){.site = &site, .method = i < WRITERS ? "POST" : "GET", .stop = &stop};
        assert_int_equal(thread_start(&threads[i], "asker", ask_again, &askers[i], &err), 0);
    }
    has_grown = wal_passes(true);
    has_shrunk = wal_passes(false);
    atomic_store(&stop, true);
    for (int i = 0; i < ASKERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(askers[i].answers > 0);
        assert_int_equal(askers[i].failures, 0);
    }
    assert_true(has_grown);
    assert_true(has_shrunk);
    site_stop(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(routes__what_is_nobodys_is_not_found),
        IN_TEMP_DIR(routes__another_method_is_told_which_ones_there_are),
        IN_TEMP_DIR(routes__what_is_answered_is_committed),
        IN_TEMP_DIR(routes__a_failure_is_undone_and_shows_nothing),
        IN_TEMP_DIR(routes__who_is_refused_has_written_nothing),
        IN_TEMP_DIR(routes__reading_cannot_write),
        IN_TEMP_DIR(routes__an_endless_loop_ends_and_the_place_is_good_again),
        IN_TEMP_DIR(routes__the_user_path_takes_reading_only),
        IN_TEMP_DIR(routes__a_transaction_that_a_function_lost_is_its_failure),
        IN_TEMP_DIR(routes__one_that_fails_when_it_runs_again_is_a_clean_failure),
        IN_TEMP_DIR(routes__a_long_path_leaves_room_in_the_log),
        IN_TEMP_DIR(routes__a_reload_drops_no_request_and_never_goes_back),
        IN_TEMP_DIR(routes__slow_reads_do_not_let_the_log_grow_without_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
