/* SPDX-License-Identifier: MIT */
#include "admin/metrics.h"

#include "admin/admin.h"
#include "admin/certificate_status.h"
#include "admin/script_status.h"
#include "auth/auth.h"
#include "base/metric.h"
#include "http/server.h"
#include "routes/routes.h"
#include "store/db.h"
#include "workos/counts.h"
#include "workos/poller.h"
#include "workos/tally.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_PATH_MAX = 4096 };

/* The only line of its metric. */
static void put_one(struct buf *out, const char *name, enum metric_kind kind, const char *help,
                    uint64_t value)
{
    metric_put_head(out, name, kind, help);
    metric_put(out, name, METRIC_LABELS(), value);
}

static void put_gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
    put_one(out, name, METRIC_GAUGE, help, value);
}

static void put_build(struct buf *out)
{
    static const char name[] = "authkitd_build_info";

    put_gauge(out, "authkitd_up", "The process serves.", 1);
    metric_put_head(out, name, METRIC_GAUGE, "Which version serves; always 1.");
    metric_put(out, name,
               METRIC_LABELS({"version", AUTHKITD_VERSION}, {"sqlite", db_library_version()}), 1);
}

/* ---------------------------------------------------------------------------------- work done */

static void put_service(struct buf *out, const struct workos_counts *counts)
{
    static const char events[] = "authkitd_events_total", actions[] = "authkitd_actions_total";

    metric_put_head(out, events, METRIC_COUNTER,
                    "What became of events, when they came and at each later attempt.");
    metric_put_table(out, events, "type", "outcome", workos_outcome_names, OUTCOMES,
                     &counts->events);
    metric_put_head(out, actions, METRIC_COUNTER,
                    "Verdicts of actions; error: the function failed.");
    metric_put_table(out, actions, "action", "verdict", workos_verdict_names, VERDICTS,
                     &counts->actions);
}

static void put_routes(struct buf *out, const struct routes_counts *counts)
{
    static const char name[] = "authkitd_routes_total";

    metric_put_head(out, name, METRIC_COUNTER,
                    "Answers of the script's routes and of GET /workos/user.");
    for (int i = 0; i < ROUTES_METHODS; i++)
        metric_put_statuses(out, name, METRIC_LABELS({"method", routes_method_names[i]}),
                            &counts->methods[i]);
}

static void put_tokens(struct buf *out, const struct metric_counter *counts)
{
    static const char name[] = "authkitd_tokens_total";

    metric_put_head(out, name, METRIC_COUNTER,
                    "Requests to routes by the access token that came with them.");
    for (int i = 0; i < TOKENS_OUTCOMES; i++)
        metric_put(out, name, METRIC_LABELS({"outcome", auth_outcome_names[i]}),
                   metric_value(&counts[i]));
}

static void put_functions(struct buf *out, const struct workos_counts *counts,
                          const struct routes_counts *routes)
{
    static const char name[] = "authkitd_function_seconds";
    const struct {
        const char *kind;
        const struct metric_histogram *histogram;
    } kinds[] = {
        {"event", &counts->event_functions},
        {"action", &counts->action_functions},
        {"route", &routes->functions},
    };

    metric_put_head(out, name, METRIC_HISTOGRAM, "How long the script's functions ran.");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        metric_put_histogram(out, name, METRIC_LABELS({"kind", kinds[i].kind}), kinds[i].histogram,
                             &metric_scale_seconds);
}

static void put_writer(struct buf *out, const struct writer_counts *counts)
{
    static const char commits[] = "authkitd_commit_seconds", batches[] = "authkitd_batch_jobs";

    metric_put_head(out, commits, METRIC_HISTOGRAM,
                    "How long the disk took for each transaction that wrote.");
    metric_put_histogram(out, commits, METRIC_LABELS(), &counts->commits, &metric_scale_seconds);
    metric_put_head(out, batches, METRIC_HISTOGRAM, "How many jobs one transaction served.");
    metric_put_histogram(out, batches, METRIC_LABELS(), &counts->batches, &writer_batch_scale);
}

static void put_http(struct buf *out, struct http_server *http)
{
    static const char name[] = "authkitd_http_requests_total";

    if (!http) /* it starts after the admin listener */
        return;
    metric_put_head(out, name, METRIC_COUNTER, "Answers to the world by HTTP status.");
    metric_put_statuses(out, name, METRIC_LABELS(), http_server_statuses(http));
    put_gauge(out, "authkitd_http_connections", "Open connections of the world.",
              (uint64_t)http_server_connections(http));
}

static void put_script(struct buf *out, struct script_status *script,
                       const struct workos_counts *counts)
{
    static const char name[] = "authkitd_reloads_total";
    struct script_loads loads;

    script_status_get(script, &loads);
    metric_put_head(out, name, METRIC_COUNTER, "Loads of the script after the start.");
    metric_put(out, name, METRIC_LABELS({"outcome", "good"}), loads.good);
    metric_put(out, name, METRIC_LABELS({"outcome", "refused"}), loads.refused);
    put_gauge(out, "authkitd_reload_refused",
              "1 when the last load of the script was refused: the one before goes on.",
              loads.refused_ms != 0);
    put_gauge(out, "authkitd_script_loaded_timestamp_seconds",
              "When the script that runs was loaded.", (uint64_t)loads.loaded_ms / 1000);
    put_gauge(out, "authkitd_script_memory_bytes",
              "Memory of the Lua state that runs events and actions.",
              atomic_load_explicit(&counts->script_bytes, memory_order_relaxed));
}

static void put_certificate(struct buf *out, struct certificate_status *certificate)
{
    struct certificate_load load;

    if (!certificate)
        return;
    certificate_status_get(certificate, &load);
    put_gauge(out, "authkitd_certificate_expires_timestamp_seconds",
              "When the certificate that is served expires.",
              load.to_ms > 0 ? (uint64_t)load.to_ms / 1000 : 0);
    put_gauge(out, "authkitd_certificate_refused",
              "1 when the last reading of the certificate was refused: the one before goes on.",
              load.refused_ms != 0);
}

/* ---------------------------------------------------------------------------------- how things are */

static void put_state(struct buf *out, struct workos *workos)
{
    static const char name[] = "authkitd_queue_jobs";
    struct writer_state state;

    workos_get_state(workos, &state);
    metric_put_head(out, name, METRIC_GAUGE, "Jobs that wait for the writer.");
    metric_put(out, name, METRIC_LABELS({"priority", "urgent"}), state.urgent);
    metric_put(out, name, METRIC_LABELS({"priority", "normal"}), state.normal);
    put_gauge(out, "authkitd_disk_full", "1 while the disk has no room for events.",
              state.full_since_ms != 0);
}

static void put_tally(struct buf *out, struct tally *tally)
{
    static const char name[] = "authkitd_events";
    struct tally_counts counts;

    tally_get(tally, &counts);
    metric_put_head(out, name, METRIC_GAUGE,
                    "Events in the database that aren't done; at most a million of each status.");
    for (int status = EVENT_DONE + 1; status < EVENT_STATUSES; status++)
        if (counts.events[status] >= 0)
            metric_put(out, name, METRIC_LABELS({"status", event_status_names[status]}),
                       (uint64_t)counts.events[status]);
    if (counts.users >= 0)
        put_gauge(out, "authkitd_users", "Users in the database.", (uint64_t)counts.users);
}

static void put_poll(struct buf *out, struct poller *poller)
{
    struct poller_status status;

    if (!poller)
        return;
    poller_get_status(poller, &status);
    put_gauge(out, "authkitd_poll_age_seconds", "Since the last good reading of the Events API.",
              (uint64_t)poller_age_s(&status));
    put_gauge(out, "authkitd_poll_failing", "1 when the last reading of the Events API failed.",
              status.is_failing);
}

static void put_keys(struct buf *out, struct auth *auth)
{
    struct keys_status status;

    auth_get_status(auth, &status);
    put_gauge(out, "authkitd_keys_failing",
              "1 when the last reading of the key set of access tokens failed.", status.is_failing);
}

static uint64_t file_bytes(const char *path, const char *suffix)
{
    char name[FILE_PATH_MAX];
    struct stat st;

    snprintf(name, sizeof(name), "%s%s", path, suffix);
    return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void put_files(struct buf *out, const char *db_path)
{
    put_gauge(out, "authkitd_database_bytes", "Size of the database file.",
              file_bytes(db_path, ""));
    put_gauge(out, "authkitd_wal_bytes", "Size of the database's write-ahead log.",
              file_bytes(db_path, "-wal"));
}

/* ---------------------------------------------------------------------------------- the process */

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (!dir)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count ? count - 1 : 0; /* without dir's own */
}

static void put_process(struct buf *out, int64_t started_ms)
{
    static const char cpu[] = "process_cpu_seconds_total";
    struct rusage usage = {0};
    struct rlimit limit = {0};

    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &limit);
    metric_put_head(out, cpu, METRIC_COUNTER, "User and system time of the process.");
    metric_put_real(out, cpu, METRIC_LABELS(),
                    seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    put_gauge(out, "process_resident_memory_bytes", "Memory of the process that is in RAM.",
              resident_bytes());
    put_gauge(out, "process_start_time_seconds", "When the process started.",
              (uint64_t)started_ms / 1000);
    put_gauge(out, "process_open_fds", "Files and connections that are open.", open_fds());
    put_gauge(out, "process_max_fds", "How many may be.", limit.rlim_cur);
}

/* ---------------------------------------------------------------------------------- all */

void metrics_answer(struct admin *admin, struct http_response *response)
{
    struct buf *out = &response->body;
    struct workos *workos = admin->workos;
    const struct workos_counts *counts = workos_counts(workos);
    const struct routes_counts *routes = routes_counts(admin->routes);
    struct auth *auth = admin->auth;

    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    put_build(out);
    put_service(out, counts);
    put_routes(out, routes);
    put_functions(out, counts, routes);
    put_http(out, admin->http);
    if (auth) {
        put_tokens(out, auth_counts(auth));
        put_keys(out, auth);
    }
    put_writer(out, workos_writer_counts(workos));
    put_state(out, workos);
    put_tally(out, admin->tally);
    put_poll(out, workos_poller(workos));
    put_script(out, admin->script, counts);
    put_certificate(out, admin->certificate);
    put_files(out, admin->db_path);
    put_process(out, admin->started_ms);
}
