/* SPDX-License-Identifier: MIT */
#include "workos/room.h"

#include "workos/workos_state.h"

#define KEY "'room'"
#define BYTES "65536"

static int run_write(struct writer_job *job, struct db *db, struct err *err)
{
    (void)job;
    return db_exec(db,
                   "INSERT OR REPLACE INTO authkitd_state (key, value)"
                   " VALUES (" KEY ", zeroblob(" BYTES "))",
                   err);
}

static int run_delete(struct writer_job *job, struct db *db, struct err *err)
{
    (void)job;
    return db_exec(db, "DELETE FROM authkitd_state WHERE key = " KEY, err);
}

/* In two transactions: what is deleted in the same one need not be written. */
int room_try(struct workos *workos, struct err *err)
{
    struct writer_job write = {.run = run_write}, delete = {.run = run_delete};
    int rc = writer_run(workos->writer, &write, err);

    return rc < 0 ? rc : writer_run(workos->writer, &delete, err);
}
