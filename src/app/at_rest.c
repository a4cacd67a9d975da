/* SPDX-License-Identifier: MIT */
#include "app/at_rest.h"

#include "app/database.h"
#include "app/handlers.h"
#include "app/service.h"
#include "store/lock.h"

#include <stdlib.h>

struct at_rest {
    struct lock *lock;
    struct db *db;
    struct workos *workos;
    char note_path[SERVICE_PATH_MAX];
};

static int load_script(struct at_rest *at_rest, const struct config *config, struct err *err)
{
    struct buf report = BUF_INIT(65536);
    struct script *script = NULL;
    int rc = handlers_load(&script, config, err);

    if (rc == 0)
        rc = workos_install(at_rest->workos, script, &report, err);
    if (rc < 0)
        script_free(script);
    buf_release(&report);
    return rc;
}

int at_rest_open(struct at_rest **out, const struct config *config, struct err *err)
{
    struct at_rest *at_rest = calloc(1, sizeof(*at_rest));
    struct workos_opts opts;
    int rc;

    if (!at_rest)
        return err_set(err, ERR_NOMEM, "no memory for the service");
    rc = lock_acquire(&at_rest->lock, config->db, err);
    if (rc == 0)
        rc = database_open_writer(&at_rest->db, config->db, err);
    if (rc == 0) /* it may have been made just now */
        rc = lock_database(at_rest->lock, config->db, err);
    service_fill(&opts, config, at_rest->db, at_rest->note_path);
    if (rc == 0)
        rc = workos_open(&at_rest->workos, &opts, err);
    if (rc == 0)
        rc = load_script(at_rest, config, err);
    if (rc < 0) {
        at_rest_close(at_rest);
        return rc;
    }
    *out = at_rest;
    return 0;
}

void at_rest_close(struct at_rest *at_rest)
{
    if (!at_rest)
        return;
    workos_close(at_rest->workos);
    db_close(at_rest->db);
    lock_release(at_rest->lock);
    free(at_rest);
}

struct workos *at_rest_workos(struct at_rest *at_rest)
{
    return at_rest->workos;
}
