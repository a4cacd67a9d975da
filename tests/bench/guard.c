/* SPDX-License-Identifier: MIT */
/*
 * guard - the whole path of an event without HTTP, so regular that its instructions can be counted.
 *
 *     bench_guard FOLDER HANDLERS
 *
 * Run under callgrind (scripts/bench guard does), which dumps its counts at the end of each part; alone
 * it is a quick run of the path for a profiler. Parts, each behind a warm-up that isn't counted:
 *
 *     new, update, duplicate   webhooks in batches of BATCH: what a busy server pays for each
 *     single                   new users one at a time, a commit for each
 *     action                   one at a time; nothing is written
 *     get                      a GET route that reads a row
 *     get_token                the same, of whoever the access token is
 *     user                     GET /workos/user
 *
 * Batches don't form by chance here: a first job keeps the writer until all the others wait. Nor does what the
 * writer does by itself fall where the clock will have it: each part begins with an empty log (settle) and
 * ends when the writer has looked after its last batch (wait_for_writer). A line is printed for each dump: the
 * part's name, how many events, and how many blocks of memory were allocated.
 *
 * FOLDER has to be empty, and keeps the database. The process's malloc is counted, and then is glibc's own.
 */
#include "auth/auth.h"
#include "base/clock.h"
#include "base/err.h"
#include "routes/routes.h"
#include "script/script.h"
#include "store/writer.h"
#include "token.h"
#include "traffic.h"
#include "unit/workos/receive.h"
#include "workos/mirror.h"
#include "workos/signature.h"
#include "workos/workos_state.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

enum {
    BATCH = 32,
    BATCHES = 10,
    SINGLES = 100,
    ACTIONS = 200,
    GETS = 200,      /* of each script, behind WARM_GETS */
    WARM_GETS = 250, /* each state grows at first */
    SCRIPTS = 4,
    PATH_ROOM = 4096, /* and some more for the names of files in the folder */
    NAME_ROOM = 32,
    WAIT_PAUSE_US = 20000,
    WAIT_TRIES = 3000, /* a minute */
};

static const char seed[] = TOKEN_SEED;
static char folder[PATH_ROOM]; /* absolute */

/* ------------------------------------------------------------------------ allocations */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static atomic_ulong allocations;

void *malloc(size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_realloc(block, size);
}

/* ------------------------------------------------------------------------ time */

static const int64_t epoch_ms = 1768249067677; /* of the bodies, which shall always be the same */

/*
 * Lua seeds the hashes of its strings with it, and with addresses: which of them collide, and so what a request
 * costs, is each state's luck. Here no clock takes part in that; what luck is left the GET parts spread over
 * SCRIPTS states, of which each has another seed.
 */
time_t time(time_t *out)
{
    static atomic_int calls;
    time_t now = epoch_ms / 1000 + atomic_fetch_add(&calls, 1);

    if (out)
        *out = now;
    return now;
}

/* ------------------------------------------------------------------------ the service */

static struct workos *workos;
static struct signing_keys *action_keys, *webhook_keys;
static struct routes *routes; /* NULL until their parts come */
static struct auth *auth;

static _Noreturn void die(const char *what, const char *which)
{
    fprintf(stderr, "bench_guard: %s%s\n", what, which);
    exit(1);
}

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        die(err->text, "");
}

static void path_of(const char *name, char out[PATH_ROOM + NAME_ROOM])
{
    snprintf(out, PATH_ROOM + NAME_ROOM, "%s/%s", folder, name);
}

static void install(const char *handlers)
{
    struct script_opts opts = {.path = handlers,
                               .memory_bytes = 64 << 20,
                               .event_timeout_ms = 60000,
                               .action_timeout_ms = 60000};
    struct buf report = BUF_INIT(65536);
    struct script *script;
    struct err err;

    opts.tables = mirror_script_tables(&opts.table_count);
    must(script_load(&script, &opts, &err), &err);
    must(workos_install(workos, script, &report, &err), &err);
    buf_release(&report);
}

static void installing(void *arg)
{
    (void)arg;
    if (routes)
        routes_installing(routes);
}

static void installed(void *arg, const struct script *script)
{
    (void)arg;
    if (routes)
        routes_installed(routes, script);
}

static void open_service(const char *handlers, struct db **out_db)
{
    static char note_path[PATH_ROOM + NAME_ROOM];
    char path[PATH_ROOM + NAME_ROOM];
    struct err err;

    path_of("guard.db", path);
    path_of("guard.db.watchdog", note_path);
    must(db_open(out_db, path, DB_WRITER, &err), &err);
    const struct workos_opts opts = {.db = *out_db,
                                     .webhook_secret = TRAFFIC_WEBHOOK_SECRET,
                                     .action_secret = TRAFFIC_ACTION_SECRET,
                                     .max_queue = 1024,
                                     .max_batch_ms = 600000, /* valgrind takes its time */
                                     .crowd = 96,
                                     .retention_days = 30,
                                     .handler_timeout_ms = 60000,
                                     .action_timeout_ms = 60000,
                                     .note_path = note_path,
                                     .installing = installing,
                                     .installed = installed};
    must(workos_open(&workos, &opts, &err), &err);
    install(handlers);
    must(signing_keys_new(&webhook_keys, TRAFFIC_WEBHOOK_SECRET, &err), &err);
    must(signing_keys_new(&action_keys, TRAFFIC_ACTION_SECRET, &err), &err);
}

static const char routes_text[] =
    "authkit.routes {\n"
    "   ['GET /lists'] = function(ctx, request)\n"
    "      return ctx.db.query('todo_lists'):where('user_id', request.query.user):all()\n"
    "   end,\n"
    "   ['GET /mine'] = function(ctx, request)\n"
    "      local user = ctx.auth.require()\n"
    "      return ctx.db.query('todo_lists'):where('user_id', user.id):all()\n"
    "   end,\n"
    "}\n";

/* A file of the folder, with what is in the file named first (NULL: none), and the text behind it. */
static void write_file(const char *path, const char *first, const char *text)
{
    FILE *out = fopen(path, "w"), *in = first ? fopen(first, "r") : NULL;
    int c;

    if (!out || (first && !in))
        die("can't be written: ", path);
    while (in && (c = getc(in)) != EOF)
        putc(c, out);
    fputs(text, out);
    if (in)
        fclose(in);
    fclose(out);
}

/* The same service with routes, whose script is written to script_path. */
static void open_routes(const char *handlers, const char *script_path)
{
    char db_path[PATH_ROOM + NAME_ROOM];
    char key_path[PATH_ROOM + NAME_ROOM], url[PATH_ROOM + NAME_ROOM + 8];
    struct auth_opts auth_opts = {
        .jwks_url = url, .client_id = TOKEN_CLIENT_ID, .issuers = TOKEN_ISSUER};
    struct err err;

    path_of("guard.db", db_path);
    path_of("keys.json", key_path);
    write_file(script_path, handlers, routes_text);
    write_file(key_path, NULL, token_key_set);
    snprintf(url, sizeof(url), "file:%s", key_path);
    must(auth_start(&auth, &auth_opts, &err), &err);
    const struct routes_opts opts = {.workos = workos, .auth = auth, .db_path = db_path};
    must(routes_new(&routes, &opts, &err), &err);
}

/* ------------------------------------------------------------------------ traffic */

enum part { PART_NEW, PART_UPDATE, PART_DUPLICATE };

struct signed_body {
    char body[TRAFFIC_BODY_MAX];
    char header[SIGNATURE_HEADER_MAX];
    size_t len;
};

static void sign(struct signed_body *out, const struct signing_keys *keys)
{
    struct err err;

    must(signature_make_header(keys, clock_wall_ms(), out->body, out->len, out->header, &err),
         &err);
}

/* n counts the events of a part; users are there already. */
static void make_event(enum part part, uint64_t n, uint64_t users, struct signed_body *out)
{
    if (part == PART_NEW)
        out->len = traffic_created(seed, n, epoch_ms, out->body);
    else if (part == PART_UPDATE)
        out->len =
            traffic_updated(seed, traffic_scatter(n, users), n, epoch_ms + (int64_t)n, out->body);
    else
        out->len = traffic_created(seed, traffic_scatter(n, users), epoch_ms, out->body);
    sign(out, webhook_keys);
}

struct gate {
    struct writer_job job; /* first: it is cast back */
    sem_t open, done;
};

static int run_gate(struct writer_job *job, struct db *db, struct err *err)
{
    (void)db, (void)err;
    sem_wait(&((struct gate *)job)->open);
    return 0;
}

static void finish_gate(struct writer_job *job, int rc, const struct err *err)
{
    (void)rc, (void)err;
    sem_post(&((struct gate *)job)->done);
}

static struct webhook *begin(const struct signed_body *event, sem_t *done)
{
    enum signature_status status;
    struct webhook *webhook;
    struct err err;

    if (webhook_open(&webhook, workos, event->header, event->body, event->len, &status, &err) !=
        WEBHOOK_PENDING)
        die("a webhook is refused: ", event->body);
    webhook_begin(webhook, false, receive_done, done);
    return webhook;
}

static enum webhook_result expected_of(enum part part)
{
    return part == PART_DUPLICATE ? WEBHOOK_DUPLICATE : WEBHOOK_RECEIVED;
}

static void run_batch(const struct signed_body *events, enum webhook_result expected)
{
    struct webhook *webhooks[BATCH];
    struct gate gate = {.job = {.run = run_gate, .done = finish_gate, .ends_batch = true}};
    struct err err;
    sem_t done;

    sem_init(&gate.open, 0, 0);
    sem_init(&gate.done, 0, 0);
    sem_init(&done, 0, 0);
    must(writer_submit(workos->writer, &gate.job, &err), &err);
    for (int i = 0; i < BATCH; i++)
        webhooks[i] = begin(&events[i], &done);
    sem_post(&gate.open);
    sem_wait(&gate.done);
    for (int i = 0; i < BATCH; i++)
        sem_wait(&done);
    for (int i = 0; i < BATCH; i++)
        if (webhook_close(webhooks[i], &err) != expected)
            die("a webhook's outcome is another one: ", events[i].body);
}

static void run_single(const struct signed_body *event)
{
    enum signature_status status;
    struct err err;

    if (receive_webhook(workos, event->header, event->body, event->len, &status, &err) !=
        WEBHOOK_RECEIVED)
        die("a webhook isn't received: ", event->body);
}

static void run_action(const struct signed_body *action)
{
    struct buf response = BUF_INIT(65536);
    enum signature_status status;
    struct err err;

    if (receive_action(workos, action->header, action->body, action->len, &response, &status,
                       &err) != ACTION_DECIDED ||
        !strstr(buf_text(&response), "Allow"))
        die("an action isn't allowed: ", action->body);
    buf_release(&response);
}

/* ------------------------------------------------------------------------ parts */

struct probe {
    struct writer_job job; /* first: it is cast back */
    pthread_t asker;
    bool was_idle;
};

static int run_probe(struct writer_job *job, struct db *db, struct err *err)
{
    struct probe *probe = (struct probe *)job;

    (void)db, (void)err;
    probe->was_idle = pthread_equal(pthread_self(), probe->asker);
    return 0;
}

/*
 * Until the writer's thread sleeps: it lets others run what they wait for then, and only then. What it does by
 * itself behind a batch is done; and as long as it holds the writer, jobs that come one at a time can join
 * each other's batches, which makes them cheaper.
 */
static void wait_for_writer(void)
{
    struct probe probe = {.job = {.run = run_probe}, .asker = pthread_self()};
    struct err err;

    for (int tries = 0; !probe.was_idle; tries++) {
        if (tries > WAIT_TRIES)
            die("the writer doesn't come to rest, in ", folder);
        if (tries > 0)
            usleep(WAIT_PAUSE_US);
        must(writer_run(workos->writer, &probe.job, &err), &err);
    }
}

static bool is_log_empty(void)
{
    char path[PATH_ROOM + NAME_ROOM];
    struct stat about;

    path_of("guard.db-wal", path);
    return stat(path, &about) < 0 || about.st_size == 0;
}

/*
 * When nothing was written for a second the writer moves the log into the file and gives memory back. Were
 * that not waited for, the next part would pay for it, or not, as the clock will have it.
 */
static void settle(void)
{
    int tries = 0;

    while (!is_log_empty()) {
        if (tries++ > WAIT_TRIES)
            die("the writer hasn't emptied its log for a minute, in ", folder);
        usleep(WAIT_PAUSE_US);
    }
    wait_for_writer();
}

static unsigned long allocations_before;

static void begin_part(void)
{
    wait_for_writer();
    allocations_before = atomic_load(&allocations);
    CALLGRIND_ZERO_STATS;
}

static void end_part(const char *name, int count)
{
    unsigned long allocated;

    wait_for_writer();
    allocated = atomic_load(&allocations) - allocations_before;
    CALLGRIND_DUMP_STATS_AT(name);
    printf("%s %d %lu\n", name, count, allocated);
}

static void measure_batches(const char *name, enum part part, uint64_t first)
{
    static struct signed_body events[BATCH * (BATCHES + 1)];

    for (uint64_t i = 0; i < BATCH * (BATCHES + 1); i++)
        make_event(part, first + i, BATCH * BATCHES, &events[i]);
    settle();
    run_batch(events, expected_of(part)); /* reads again what settling gave back */
    begin_part();
    for (size_t i = 1; i <= BATCHES; i++)
        run_batch(&events[i * BATCH], expected_of(part));
    end_part(name, BATCH * BATCHES);
}

static void warm_up(void)
{
    static struct signed_body events[BATCH];

    for (int part = PART_NEW; part <= PART_DUPLICATE; part++) {
        for (uint64_t i = 0; i < BATCH; i++)
            make_event((enum part)part, i, BATCH, &events[i]);
        run_batch(events, expected_of(part));
    }
}

static void measure_singles(void)
{
    static struct signed_body events[SINGLES];

    for (uint64_t i = 0; i < SINGLES; i++)
        make_event(PART_NEW, 100000 + i, 0, &events[i]);
    settle();
    run_single(&events[0]);
    begin_part();
    for (size_t i = 1; i < SINGLES; i++)
        run_single(&events[i]);
    end_part("single", SINGLES - 1);
}

static void measure_actions(void)
{
    static struct signed_body actions[ACTIONS];

    for (uint64_t i = 0; i < ACTIONS; i++) {
        actions[i].len = traffic_action(seed, i, actions[i].body);
        sign(&actions[i], action_keys);
    }
    settle();
    run_action(&actions[0]);
    begin_part();
    for (size_t i = 1; i < ACTIONS; i++)
        run_action(&actions[i]);
    end_part("action", ACTIONS - 1);
}

/* As a browser asks, through a proxy. */
static int get(const char *path, const char *query, const char *bearer, const char *expect)
{
    const struct http_header headers[] = {
        {"Host", "api.example.com"},    {"User-Agent", "Mozilla/5.0"},
        {"Accept", "application/json"}, {"X-Forwarded-For", "203.0.113.7"},
        {"X-Forwarded-Proto", "https"}, {"Authorization", bearer},
    };
    const struct http_request request = {
        .method = "GET",
        .path = path,
        .query = query,
        .headers = headers,
        .header_count = bearer ? 6 : 5,
        .body = "",
        .remote_addr = "127.0.0.1",
    };
    struct http_response response = {
        .status = 200,
        .body = BUF_INIT(HTTP_RESPONSE_MAX_BYTES),
        .headers = BUF_INIT(16384),
    };
    int status;

    routes_answer(routes, &request, &response);
    status = response.status;
    if (status == 200 && !strstr(buf_text(&response.body), expect))
        die("the answer isn't what is there: GET ", path);
    buf_release(&response.body);
    buf_release(&response.headers);
    return status;
}

static void measure_gets(const char *name, const char *path, const char *query, const char *bearer,
                         const char *expect)
{
    for (int i = 0; i < WARM_GETS; i++)
        get(path, query, bearer, expect);
    begin_part();
    for (int i = 0; i < GETS; i++)
        if (get(path, query, bearer, expect) != 200)
            die("the answer isn't 200: GET ", path);
    end_part(name, GETS);
}

/* A thread of its own reads it. */
static void wait_for_key_set(void)
{
    int tries = 0;

    while (get(ROUTES_USER_PATH, NULL, token_bearer, "Lovelace") != 200)
        if (tries++ > 100 || usleep(100000) < 0)
            die("the key set of access tokens isn't read, of ", folder);
    if (tries > 0)
        usleep(100000);
}

static void measure_script(void)
{
    char id[TRAFFIC_ID_MAX], query[TRAFFIC_ID_MAX + 8];

    traffic_user_id(TOKEN_SEED, TOKEN_USER, id);
    snprintf(query, sizeof(query), "user=%s", id);
    measure_gets("get", "/lists", query, NULL, "Ada's Todo List");
    measure_gets("get_token", "/mine", NULL, token_bearer, "Ada's Todo List");
    measure_gets("user", ROUTES_USER_PATH, NULL, token_bearer, "Lovelace");
}

static void measure_routes(const char *handlers)
{
    char script_path[PATH_ROOM + NAME_ROOM];

    path_of("routes.lua", script_path);
    open_routes(handlers, script_path);
    for (int i = 0; i < SCRIPTS; i++) {
        install(script_path);
        wait_for_key_set();
        settle();
        measure_script();
    }
}

/* What there is from an earlier run would be counted as part of this one. */
static void use_folder(const char *given)
{
    char path[PATH_ROOM + NAME_ROOM];
    struct stat about;

    if (strlen(given) >= PATH_ROOM || !realpath(given, folder) || stat(folder, &about) < 0)
        die("make this folder first: ", given);
    if (!S_ISDIR(about.st_mode))
        die("not a folder: ", given);
    path_of("guard.db", path);
    if (stat(path, &about) == 0)
        die("an earlier run's database is there, give another folder or remove it: ", path);
}

int main(int argc, char **argv)
{
    struct db *db = NULL;

    if (argc != 3) {
        fputs("usage: bench_guard FOLDER HANDLERS\n", stderr);
        return 2;
    }
    use_folder(argv[1]);
    open_service(argv[2], &db);
    warm_up();
    measure_batches("new", PART_NEW, BATCH);
    measure_batches("update", PART_UPDATE, BATCH);
    measure_batches("duplicate", PART_DUPLICATE, 0);
    measure_singles();
    measure_actions();
    measure_routes(argv[2]);
    workos_close(workos);
    routes_free(routes);
    auth_stop(auth);
    db_close(db);
    signing_keys_free(webhook_keys);
    signing_keys_free(action_keys);
    return 0;
}
