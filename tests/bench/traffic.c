/* SPDX-License-Identifier: MIT */
#include "traffic.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* WorkOS's ids are ULIDs behind a prefix: 26 characters that begin with the time. */
static void write_id(const char *prefix, const char *seed, uint64_t number,
                     char out[TRAFFIC_ID_MAX])
{
    snprintf(out, TRAFFIC_ID_MAX, "%s_01K5%.6s%016" PRIu64, prefix, seed, number);
}

void traffic_user_id(const char *seed, uint64_t user, char out[TRAFFIC_ID_MAX])
{
    write_id("user", seed, user, out);
}

static void write_time(int64_t ms, char out[32])
{
    time_t seconds = ms / 1000;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + 19, 13, ".%03dZ", (int)(ms % 1000));
}

static size_t write_event(const char *type, const char *event_id, const char *seed, uint64_t user,
                          const char *first_name, int64_t now_ms, char out[TRAFFIC_BODY_MAX])
{
    char id[TRAFFIC_ID_MAX], now[32];
    int len;

    traffic_user_id(seed, user, id);
    write_time(now_ms, now);
    len = snprintf(out, TRAFFIC_BODY_MAX,
                   "{\"id\":\"%s\",\"data\":{\"object\":\"user\",\"id\":\"%s\","
                   "\"email\":\"%s@example.com\",\"email_verified\":true,\"name\":\"%s Lovelace\","
                   "\"first_name\":\"%s\",\"last_name\":\"Lovelace\","
                   "\"profile_picture_url\":\"https://workoscdn.com/images/v1/ada.png\","
                   "\"last_sign_in_at\":\"2026-01-12T20:17:47.677Z\",\"external_id\":\"ext_%s\","
                   "\"locale\":\"en-GB\",\"metadata\":{\"plan\":\"team\",\"seats\":\"12\"},"
                   "\"created_at\":\"2026-01-12T20:17:40.000Z\",\"updated_at\":\"%s\"},"
                   "\"event\":\"%s\",\"context\":{\"client_id\":\"client_01JZ\","
                   "\"actor\":{\"id\":\"admin_1\",\"source\":\"dashboard\",\"name\":null}},"
                   "\"created_at\":\"%s\"}",
                   event_id, id, id, first_name, first_name, id, now, type, now);
    assert(len > 0 && len < TRAFFIC_BODY_MAX);
    return (size_t)len;
}

size_t traffic_created(const char *seed, uint64_t user, int64_t now_ms, char out[TRAFFIC_BODY_MAX])
{
    char event_id[TRAFFIC_ID_MAX];

    write_id("event", seed, user, event_id);
    return write_event("user.created", event_id, seed, user, "Ada", now_ms, out);
}

size_t traffic_updated(const char *seed, uint64_t user, uint64_t event, int64_t now_ms,
                       char out[TRAFFIC_BODY_MAX])
{
    char event_id[TRAFFIC_ID_MAX];

    write_id("event_01U", seed, event, event_id);
    return write_event("user.updated", event_id, seed, user, "Augusta", now_ms, out);
}

size_t traffic_action(const char *seed, uint64_t number, char out[TRAFFIC_BODY_MAX])
{
    char id[TRAFFIC_ID_MAX];
    int len;

    write_id("user_registration_action", seed, number, id);
    len = snprintf(out, TRAFFIC_BODY_MAX,
                   "{\"id\":\"%s\",\"object\":\"user_registration_action_context\","
                   "\"user_data\":{\"object\":\"user_data\",\"email\":\"grace@example.com\","
                   "\"name\":\"Grace Hopper\",\"first_name\":\"Grace\",\"last_name\":\"Hopper\"},"
                   "\"ip_address\":\"203.0.113.7\",\"user_agent\":\"Mozilla/5.0\","
                   "\"device_fingerprint\":\"df_1\"}",
                   id);
    assert(len > 0 && len < TRAFFIC_BODY_MAX);
    return (size_t)len;
}

/* A step that is prime and larger than any count has no divisor in common with it. */
uint64_t traffic_scatter(uint64_t n, uint64_t count)
{
    return (uint64_t)((unsigned __int128)n * 2654435761u % count);
}
