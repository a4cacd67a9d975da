/* SPDX-License-Identifier: MIT */
/*
 * scratch - a database in memory and files without a name, for fuzzers: one set for all inputs.
 *
 * What an input writes is rolled back by it, so that every input finds the same.
 */
#ifndef TESTS_FUZZ_SCRATCH_H
#define TESTS_FUZZ_SCRATCH_H

#include "store/db.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SCRATCH_PATH_MAX = 64 };

static inline void scratch_fail(const char *what, const struct err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    abort();
}

static inline void scratch_exec(struct db *db, const char *sql)
{
    struct err err;

    if (db_exec(db, sql, &err) < 0)
        scratch_fail(sql, &err);
}

/* A file with these bytes; out_path is good until the next call with the same fd. */
static inline void scratch_file(int *fd, const uint8_t *data, size_t size, char *out_path)
{
    if (*fd <= 0)
        *fd = memfd_create("input", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, 0) < 0 || pwrite(*fd, data, size, 0) != (ssize_t)size)
        abort();
    snprintf(out_path, SCRATCH_PATH_MAX, "/proc/self/fd/%d", *fd);
}

/* A database in a directory that is gone as soon as it is open. */
static inline struct db *scratch_db(void)
{
    char directory[] = "/dev/shm/authkitd-fuzz-XXXXXX", path[64], rest[80];
    struct db *db = NULL;
    struct err err = {0};

    if (!mkdtemp(directory))
        abort();
    snprintf(path, sizeof(path), "%s/db", directory);
    if (db_open(&db, path, DB_WRITER, &err) < 0)
        scratch_fail("the fuzzer's database", &err);
    scratch_exec(db, "CREATE TABLE scratch_begins (x)"); /* -wal and -shm are there from now on */
    unlink(path);
    snprintf(rest, sizeof(rest), "%s-wal", path);
    unlink(rest);
    snprintf(rest, sizeof(rest), "%s-shm", path);
    unlink(rest);
    rmdir(directory);
    return db;
}

#endif
