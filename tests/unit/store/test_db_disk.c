/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "fault_vfs.h"
#include "temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Symptom: the journal mode's change failed behind its row, and db_open said that all was well. */
static void db__failed_sync_of_a_new_file_is_told(void **state)
{
    struct db *db = NULL;
    struct err err = {0};
    long n = 0;

    (void)state;
    for (;;) {
        unlink("a.db");
        atomic_store(&fault_syncs, n);
        if (db_open(&db, "a.db", DB_WRITER, &err) == 0)
            break;
        assert_int_equal(err.code, ERR_FATAL);
        assert_non_null(strstr(err.text, "fsync failed"));
        n++;
    }
    assert_true(atomic_load(&fault_syncs) >= 0); /* none has failed this time */
    assert_true(n > 1);
    fault_none();
    db_close(db);
}

static void db__full_disk_is_told_of_a_new_file(void **state)
{
    struct db *db = NULL;
    struct err err = {0};

    (void)state;
    atomic_store(&fault_writes, 1);
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, &err), ERR_FULL);
    assert_non_null(strstr(err.text, "cannot use the database '"));
    assert_non_null(strstr(err.text, "/a.db': database or disk is full"));
    fault_none();
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, &err), 0);
    db_close(db);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(db__failed_sync_of_a_new_file_is_told),
        IN_TEMP_DIR(db__full_disk_is_told_of_a_new_file),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("db_disk", tests, NULL, NULL);
}
