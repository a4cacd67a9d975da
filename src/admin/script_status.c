/* SPDX-License-Identifier: MIT */
#include "admin/script_status.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAMES_MAX = 65536, TEXT_MAX = 65536 };

struct script_status {
    char *file;
    pthread_mutex_t lock;
    struct buf events, actions, routes; /* guarded by lock, as all that follows */
    uint64_t good, refused;             /* loads behind the first one */
    int64_t loaded_at;                  /* 0: no script was installed yet */
    struct buf text;
    int64_t last_at;
    bool is_refused;
    struct stat read; /* the file as it was then; zeros when it wasn't there */
};

int script_status_new(struct script_status **out, const char *file, struct err *err)
{
    struct script_status *status = calloc(1, sizeof(*status));

    if (!status || !(status->file = strdup(file))) {
        free(status);
        return err_set(err, ERR_NOMEM, "no memory for the script's status");
    }
    status->events = status->actions = status->routes = BUF_INIT(NAMES_MAX);
    status->text = BUF_INIT(TEXT_MAX);
    pthread_mutex_init(&status->lock, NULL);
    *out = status;
    return 0;
}

void script_status_free(struct script_status *status)
{
    if (!status)
        return;
    buf_release(&status->events);
    buf_release(&status->actions);
    buf_release(&status->routes);
    buf_release(&status->text);
    pthread_mutex_destroy(&status->lock);
    free(status->file);
    free(status);
}

/* Zeros when there is no such file. */
static void look_at(const char *file, struct stat *out)
{
    if (stat(file, out) < 0)
        *out = (struct stat){0};
}

void script_status_reading(struct script_status *status)
{
    pthread_mutex_lock(&status->lock);
    look_at(status->file, &status->read);
    pthread_mutex_unlock(&status->lock);
}

static void set(struct buf *b, const char *text)
{
    buf_reset(b);
    buf_puts(b, text);
}

/* The lock is held. */
static void set_outcome(struct script_status *status, bool is_refused, const char *text)
{
    status->last_at = clock_wall_ms();
    status->is_refused = is_refused;
    set(&status->text, text);
}

void script_status_loaded(struct script_status *status, const char *events, const char *actions,
                          const char *routes, const struct buf *report)
{
    pthread_mutex_lock(&status->lock);
    set(&status->events, events);
    set(&status->actions, actions);
    set(&status->routes, routes);
    set_outcome(status, false, buf_text(report));
    status->good += status->loaded_at != 0;
    status->loaded_at = status->last_at;
    pthread_mutex_unlock(&status->lock);
}

void script_status_refused(struct script_status *status, const char *problem)
{
    pthread_mutex_lock(&status->lock);
    set_outcome(status, true, problem);
    status->refused++;
    pthread_mutex_unlock(&status->lock);
}

void script_status_get(struct script_status *status, struct script_loads *out)
{
    pthread_mutex_lock(&status->lock);
    *out = (struct script_loads){
        .good = status->good,
        .refused = status->refused,
        .loaded_ms = status->loaded_at,
        .refused_ms = status->is_refused ? status->last_at : 0,
    };
    if (status->is_refused)
        snprintf(out->problem, sizeof(out->problem), "%s", buf_text(&status->text));
    pthread_mutex_unlock(&status->lock);
}

/* A list of the names, which the separator stands between. */
static void put_names(struct buf *out, const char *member, const struct buf *names,
                      const char *separator)
{
    const char *at = buf_text(names);

    buf_printf(out, ",\"%s\":[", member);
    while (*at) {
        const char *end = strstr(at, separator);
        size_t len = end ? (size_t)(end - at) : strlen(at);

        buf_put_json_string(out, at, len);
        at += len;
        if (end) {
            buf_putc(out, ',');
            at += strlen(separator);
        }
    }
    buf_putc(out, ']');
}

/* The lock is held. An editor writes into the file, or puts another one in its place. */
static bool has_changed(const struct script_status *status)
{
    const struct stat *read = &status->read;
    struct stat now;

    look_at(status->file, &now);
    return now.st_ino != read->st_ino || now.st_size != read->st_size ||
           now.st_mtim.tv_sec != read->st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != read->st_mtim.tv_nsec;
}

void script_status_put(struct script_status *status, struct buf *out)
{
    pthread_mutex_lock(&status->lock);
    buf_puts(out, "{\"file\":");
    buf_put_json_string(out, status->file, strlen(status->file));
    buf_printf(out, ",\"changed_on_disk\":%s,\"loaded_at\":%" PRId64,
               has_changed(status) ? "true" : "false", status->loaded_at);
    put_names(out, "events", &status->events, " ");
    put_names(out, "actions", &status->actions, " ");
    put_names(out, "routes", &status->routes, ", ");
    buf_printf(out,
               ",\"last_load\":{\"at\":%" PRId64 ",\"outcome\":\"%s\",\"text\":", status->last_at,
               status->is_refused ? "refused" : "loaded");
    buf_put_json_string(out, buf_text(&status->text), status->text.len);
    buf_puts(out, "}}");
    pthread_mutex_unlock(&status->lock);
}
