/* SPDX-License-Identifier: MIT */
#include "store/spill.h"

#include "store/db_state.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>

static void forget_folder(void)
{
    sqlite3_free(sqlite3_temp_directory);
    sqlite3_temp_directory = NULL;
}

int spill_begin(struct db *db, struct err *err)
{
    char path[PATH_MAX];
    int rc;

    snprintf(path, sizeof(path), "%s", sqlite3_db_filename(db->handle, "main"));
    sqlite3_temp_directory = sqlite3_mprintf("%s", dirname(path));
    if (!sqlite3_temp_directory)
        return err_set(err, ERR_NOMEM, "no memory to use files instead of it");
    rc = db_exec(db, "PRAGMA temp_store = FILE", err);
    if (rc < 0)
        forget_folder();
    return rc;
}

void spill_end(struct db *db)
{
    /* Should it fail, what comes next uses files, too: slower, and no harm, if it is in the same folder. */
    if (db_exec(db, "PRAGMA temp_store = MEMORY", NULL) == 0)
        forget_folder();
}
