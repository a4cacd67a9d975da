/* SPDX-License-Identifier: MIT */
#include "app/service.h"

#include <stdio.h>

/* More than there are connections: whatever comes in has room. */
enum { MAX_QUEUE = 8192 };

void service_fill(struct workos_opts *out, const struct config *config, struct db *db,
                  char note_path[SERVICE_PATH_MAX])
{
    snprintf(note_path, SERVICE_PATH_MAX, "%s.watchdog", config->db);
    *out = (struct workos_opts){
        .db = db,
        .action_on_error = (enum workos_action_on_error)config->action_on_error,
        .max_queue = MAX_QUEUE,
        .retention_days = config->retention_days,
        .handler_timeout_ms = (int)config->handler_timeout_ms,
        .action_timeout_ms = (int)config->action_timeout_ms,
        .note_path = note_path,
    };
}

bool service_api(const struct config *config, struct workos_api_opts *out)
{
    *out = (struct workos_api_opts){
        .hostname = config->api_hostname,
        .port = (int)config->api_port,
        .https = config->api_https,
        .key = config->api_key,
    };
    return config->api_key != NULL;
}
