/* SPDX-License-Identifier: MIT */
#include "app/handlers.h"

#include "workos/mirror.h"

int handlers_load(struct script **out, const struct config *config, struct err *err)
{
    struct script_opts opts = {
        .path = config->handlers,
        .memory_bytes = (size_t)config->handler_memory,
        .event_timeout_ms = (int)config->handler_timeout_ms,
        .action_timeout_ms = (int)config->action_timeout_ms,
        .route_timeout_ms = (int)config->handler_timeout_ms,
        .taken_paths = config->own_paths,
    };
    int rc;

    while (opts.taken_count < CONFIG_OWN_PATHS && config->own_paths[opts.taken_count])
        opts.taken_count++;
    opts.tables = mirror_script_tables(&opts.table_count);
    rc = script_load(out, &opts, err);
    if (rc == ERR_ABSENT)
        err_set(
            err, rc,
            "there is no script '%s': authkitd init writes one to start from, or say where it is "
            "with --handlers or AUTHKITD_HANDLERS",
            config->handlers);
    return rc;
}
