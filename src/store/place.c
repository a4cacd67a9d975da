/* SPDX-License-Identifier: MIT */
#include "store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int place_check_folder(const char *path, struct err *err)
{
    char real[PATH_MAX], copy[PATH_MAX];
    const char *folder;

    snprintf(copy, sizeof(copy), "%s", realpath(path, real) ? real : path);
    folder = dirname(copy);
    if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0)
        return 0;
    return err_errno(err, ERR_IO, "this user (uid %u) can't make files in the folder '%s'",
                     (unsigned)geteuid(), folder);
}

int place_check_link(const char *path, struct err *err)
{
    char target[PATH_MAX];
    struct stat st;
    ssize_t len;

    if (stat(path, &st) == 0 || errno != ENOENT)
        return 0;
    len = readlink(path, target, sizeof(target) - 1);
    if (len < 0)
        return 0;
    target[len] = '\0';
    return err_set(
        err, ERR_IO,
        "'%s' is a link to '%s', which isn't there: name the file itself (--db) where it "
        "is to be made",
        path, target);
}
