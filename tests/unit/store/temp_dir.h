/* SPDX-License-Identifier: MIT */
/*
 * temp_dir - a directory of its own for every test, which is the current one while the test runs.
 *
 * Use enter_temp_dir and leave_temp_dir as cmocka's setup and teardown.
 */
#ifndef TESTS_UNIT_STORE_TEMP_DIR_H
#define TESTS_UNIT_STORE_TEMP_DIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static inline int enter_temp_dir(void **state)
{
    const char *root = getenv("TMPDIR");
    char *dir = NULL;

    if (asprintf(&dir, "%s/authkitd-store-test-XXXXXX", root ? root : "/tmp") < 0)
        return -1;
    *state = dir;
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline int leave_temp_dir(void **state)
{
    int rc = chdir("/");

    if (rc == 0)
        rc = nftw(*state, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

static inline long file_size(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

#endif
