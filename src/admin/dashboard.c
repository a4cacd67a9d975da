/* SPDX-License-Identifier: MIT */
#include "admin/dashboard.h"

#include "admin/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "embedded_dashboard.h"
#include "script/route.h"
#include "store/db.h"
#include "workos/browse.h"
#include "workos/event_log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    READ_MAX_MS = 1000,
    LIMIT = 50,
    VALUE_MAX = 1024, /* of a parameter, and of an id */
};

struct dashboard {
    struct dashboard_opts opts;

    pthread_mutex_t
        lock;         /* held while something is read: the connection is one thread's at a time */
    struct db *db;    /* guarded by lock, as the next; NULL until it is needed */
    int64_t until_ms; /* when who reads now must have ended */
};

/* ------------------------------------------------------------------------- reading */

static bool is_too_long(void *arg)
{
    const struct dashboard *dashboard = arg;

    return clock_mono_ms() > dashboard->until_ms;
}

typedef int read_fn(struct db *db, const void *ask, struct buf *out, struct err *err);

/* In a transaction, so that one answer is of one moment. The lock is held. */
static int read_at_once(struct dashboard *dashboard, read_fn *read, const void *ask,
                        struct buf *out, struct err *err)
{
    int rc = 0;

    if (!dashboard->db)
        rc = db_open(&dashboard->db, dashboard->opts.db_path, DB_READER, err);
    if (rc < 0)
        return rc;
    dashboard->until_ms = clock_mono_ms() + READ_MAX_MS;
    db_set_interrupt(dashboard->db, is_too_long, dashboard);
    rc = db_exec(dashboard->db, "BEGIN", err);
    if (rc == 0)
        rc = read(dashboard->db, ask, out, err);
    db_set_interrupt(dashboard->db, NULL, NULL);
    if (db_in_transaction(dashboard->db) && db_exec(dashboard->db, "COMMIT", NULL) < 0 && rc == 0)
        rc = err_set(err, ERR_IO, "a reading transaction did not end");
    if (db_trouble(dashboard->db)) { /* the next one begins with another */
        db_close(dashboard->db);
        dashboard->db = NULL;
    }
    return rc;
}

static void refuse_reading(int rc, const struct err *err, struct http_response *response)
{
    switch (rc) {
    case ERR_ABSENT:
        http_response_error(response, 404, "not_found", err->text);
        break;
    case ERR_INVALID:
        http_response_error(response, 400, "bad_request", err->text);
        break;
    case ERR_LIMIT:
        http_response_error(response, 503, "too_slow",
                            "that took more than a second, and was given up; ask for less");
        break;
    default:
        log_error("the dashboard can't read the database", log_str("error", err->text));
        http_response_error(response, 503, "not_read", err->text);
        break;
    }
}

static void answer_reading(struct dashboard *dashboard, read_fn *read, const void *ask,
                           struct http_response *response)
{
    struct err err = {0};
    int rc;

    pthread_mutex_lock(&dashboard->lock);
    rc = read_at_once(dashboard, read, ask, &response->body, &err);
    pthread_mutex_unlock(&dashboard->lock);
    if (rc < 0)
        refuse_reading(rc, &err, response);
}

/* ------------------------------------------------------------------------- what is asked for */

/* The parameter of the query, decoded; "" when there is none. False: it can't be read. */
static bool find_parameter(const char *query, const char *name, char out[VALUE_MAX])
{
    size_t name_len = strlen(name);

    out[0] = '\0';
    for (const char *at = query; at && *at;) {
        size_t len = strcspn(at, "&");

        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=') {
            const char *value = at + name_len + 1;
            size_t out_len, value_len = len - name_len - 1;

            if (value_len >= VALUE_MAX || !route_decode(value, value_len, true, out, &out_len))
                return false;
            out[out_len] = '\0';
            return true;
        }
        at += len + (at[len] == '&');
    }
    return true;
}

/* A parameter, or NULL when it is missing or empty. *out_ok turns false when it can't be read. */
static const char *text_parameter(const struct http_request *request, const char *name,
                                  char room[VALUE_MAX], bool *out_ok)
{
    if (!find_parameter(request->query, name, room))
        *out_ok = false;
    return room[0] ? room : NULL;
}

static int64_t number_parameter(const struct http_request *request, const char *name,
                                int64_t fallback, int64_t max, bool *out_ok)
{
    char room[VALUE_MAX];
    const char *text = text_parameter(request, name, room, out_ok);
    uint64_t number;

    if (!text)
        return fallback;
    if (!text_to_u64(text, strlen(text), (uint64_t)max, &number) || number == 0) {
        *out_ok = false;
        return fallback;
    }
    return (int64_t)number;
}

static void refuse_parameters(struct http_response *response)
{
    http_response_error(response, 400, "bad_request", "a parameter of the query can't be used");
}

/* ------------------------------------------------------------------------- users and events */

static int read_users(struct db *db, const void *ask, struct buf *out, struct err *err)
{
    return browse_users(db, ask, out, err);
}

static void answer_users(struct dashboard *dashboard, const struct http_request *request,
                         struct http_response *response)
{
    char search[VALUE_MAX], after[VALUE_MAX];
    bool ok = true;
    const struct browse_users ask = {
        .search = text_parameter(request, "search", search, &ok),
        .after = text_parameter(request, "after", after, &ok),
        .limit = number_parameter(request, "limit", LIMIT, BROWSE_LIMIT_MAX, &ok),
    };

    if (ok)
        answer_reading(dashboard, read_users, &ask, response);
    else
        refuse_parameters(response);
}

static int read_user(struct db *db, const void *ask, struct buf *out, struct err *err)
{
    return browse_user(db, ask, out, err);
}

static int read_events(struct db *db, const void *ask, struct buf *out, struct err *err)
{
    return browse_events(db, ask, out, err);
}

static const char any[] = "any";

static bool is_status(const char *word)
{
    for (int i = 0; i < EVENT_STATUSES; i++)
        if (strcmp(event_status_names[i], word) == 0)
            return true;
    return strcmp(any, word) == 0;
}

static void answer_events(struct dashboard *dashboard, const struct http_request *request,
                          struct http_response *response)
{
    char status[VALUE_MAX], type[VALUE_MAX], user[VALUE_MAX];
    bool ok = true;
    struct browse_events ask = {
        .status = text_parameter(request, "status", status, &ok),
        .type = text_parameter(request, "type", type, &ok),
        .user_id = text_parameter(request, "user", user, &ok),
        .after = number_parameter(request, "after", 0, INT64_MAX, &ok),
        .limit = number_parameter(request, "limit", LIMIT, BROWSE_LIMIT_MAX, &ok),
    };

    if (!ok || (ask.status && !is_status(ask.status))) {
        refuse_parameters(response);
        return;
    }
    if (ask.status && strcmp(ask.status, any) == 0)
        ask.status = NULL;
    answer_reading(dashboard, read_events, &ask, response);
}

static int read_event(struct db *db, const void *ask, struct buf *out, struct err *err)
{
    return browse_event(db, ask, out, err);
}

/* The one whose id is the rest of the path. */
static void answer_one(struct dashboard *dashboard, const char *rest, read_fn *read,
                       struct http_response *response)
{
    char id[VALUE_MAX];
    size_t len;

    if (strlen(rest) >= sizeof(id) || !route_decode(rest, strlen(rest), false, id, &len)) {
        http_response_error(response, 400, "bad_request", "the id can't be read");
        return;
    }
    id[len] = '\0';
    answer_reading(dashboard, read, id, response);
}

/* ------------------------------------------------------------------------- the server itself */

static int read_counts(struct db *db, const void *ask, struct buf *out, struct err *err)
{
    (void)ask;
    return browse_counts(db, out, err);
}

static const char *word_of(bool is)
{
    return is ? "true" : "false";
}

static void answer_overview(struct dashboard *dashboard, const struct http_request *request,
                            struct http_response *response)
{
    const struct dashboard_opts *opts = &dashboard->opts;

    (void)request;
    buf_printf(&response->body,
               "{\"version\":\"" AUTHKITD_VERSION "\",\"now\":%" PRId64 ",\"started_at\":%" PRId64
               ",\"endpoints\":{\"webhook\":%s,\"action\":%s,\"api\":%s,\"tokens\":%s}"
               ",\"has_token\":%s,\"count_max\":%d,\"events\":",
               clock_wall_ms(), opts->started_ms, word_of(opts->has_webhook),
               word_of(opts->has_action), word_of(opts->has_api), word_of(opts->has_tokens),
               word_of(opts->has_admin_token), BROWSE_COUNT_MAX);
    answer_reading(dashboard, read_counts, NULL, response);
    if (response->status == 200)
        buf_putc(&response->body, '}');
}

static void answer_config(struct dashboard *dashboard, const struct http_request *request,
                          struct http_response *response)
{
    (void)request;
    buf_puts(&response->body, "{\"options\":[");
    dashboard->opts.put_options(dashboard->opts.arg, &response->body);
    buf_puts(&response->body, "]}");
}

static void answer_script(struct dashboard *dashboard, const struct http_request *request,
                          struct http_response *response)
{
    (void)request;
    script_status_put(dashboard->opts.script, &response->body);
}

/* ------------------------------------------------------------------------- files */

/* What is shown before one has signed in. There is nothing in it but what is in our repository. */
static const char *const open_files[] = {"sign_in.html", "sign_in.js", "style.css", "icon.svg"};

static const char *type_of(const char *name)
{
    static const struct {
        const char *end, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml"},
    };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (text_ends_with(name, types[i].end))
            return types[i].type;
    return "application/octet-stream";
}

static void answer_file(const char *name, struct http_response *response)
{
    for (size_t i = 0; i < embedded_dashboard_count; i++) {
        const struct embedded_file *file = &embedded_dashboard_files[i];

        if (strcmp(file->name, name) == 0) {
            response->content_type = type_of(name);
            buf_put(&response->body, file->text, file->len);
            return;
        }
    }
    http_response_error(response, 404, "not_found", "the dashboard has no such file");
}

static void answer_page(bool is_signed_in, struct http_response *response)
{
    if (!is_signed_in)
        response->status = 401;
    answer_file(is_signed_in ? "index.html" : "sign_in.html", response);
}

/* ------------------------------------------------------------------------- which is which */

static const char files_path[] = "/dashboard/", user_path[] = "/api/users/",
                  event_path[] = "/api/events/";

static const struct dashboard_route {
    const char *path;
    void (*answer)(struct dashboard *dashboard, const struct http_request *request,
                   struct http_response *response);
} dashboard_routes[] = {
    {"/api/overview", answer_overview}, {"/api/users", answer_users},
    {"/api/events", answer_events},     {"/api/config", answer_config},
    {"/api/script", answer_script},
};

static const struct dashboard_route *find_route(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(dashboard_routes); i++)
        if (strcmp(path, dashboard_routes[i].path) == 0)
            return &dashboard_routes[i];
    return NULL;
}

bool dashboard_is_open(const char *path)
{
    if (strcmp(path, "/") == 0)
        return true;
    if (!text_starts_with(path, files_path))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(open_files); i++)
        if (strcmp(path + strlen(files_path), open_files[i]) == 0)
            return true;
    return false;
}

bool dashboard_answer(struct dashboard *dashboard, const struct http_request *request,
                      bool is_signed_in, struct http_response *response)
{
    const char *path = request->path;
    const struct dashboard_route *route = find_route(path);
    bool is_page = strcmp(path, "/") == 0, is_file = text_starts_with(path, files_path);
    bool is_user = text_starts_with(path, user_path), is_event = text_starts_with(path, event_path);

    if (!route && !is_page && !is_file && !is_user && !is_event)
        return false;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        http_response_wrong_method(response, "GET, HEAD");
    else if (route)
        route->answer(dashboard, request, response);
    else if (is_page)
        answer_page(is_signed_in, response);
    else if (is_file)
        answer_file(path + strlen(files_path), response);
    else if (is_user)
        answer_one(dashboard, path + strlen(user_path), read_user, response);
    else
        answer_one(dashboard, path + strlen(event_path), read_event, response);
    return true;
}

/* ------------------------------------------------------------------------- start and end */

int dashboard_new(struct dashboard **out, const struct dashboard_opts *opts, struct err *err)
{
    struct dashboard *dashboard = calloc(1, sizeof(*dashboard));

    if (!dashboard)
        return err_set(err, ERR_NOMEM, "no memory for the dashboard");
    dashboard->opts = *opts;
    pthread_mutex_init(&dashboard->lock, NULL);
    *out = dashboard;
    return 0;
}

void dashboard_free(struct dashboard *dashboard)
{
    if (!dashboard)
        return;
    db_close(dashboard->db);
    pthread_mutex_destroy(&dashboard->lock);
    free(dashboard);
}
