/* SPDX-License-Identifier: MIT */
#include "app/new_file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int refuse_existing(const char *path, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "'%s' is there already: --force replaces it", path);
}

int new_file_make(struct new_file *out, const char *path, bool replace, struct err *err)
{
    struct stat st;
    int fd, len;

    *out = (struct new_file){.path = path, .replace = replace};
    if (!replace && lstat(path, &st) == 0)
        return refuse_existing(path, err);
    len = snprintf(out->partial, sizeof(out->partial), "%s.partial-XXXXXX", path);
    if (len >= (int)sizeof(out->partial))
        return err_set(err, ERR_INVALID, "'%s' is too long", path);
    fd = mkostemp(out->partial, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return err_errno(err, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO,
                         "cannot make '%s'", out->partial);
    close(fd);
    return 0;
}

static int sync_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    int rc = 0;

    if (fd < 0 || fsync(fd) < 0)
        rc = err_errno(err, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO,
                       "cannot put '%s' on disk", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Not all file systems can rename without replacing; a second name and one name less is as good. */
static int give_name(const struct new_file *file)
{
    if (file->replace)
        return rename(file->partial, file->path);
    if (renameat2(AT_FDCWD, file->partial, AT_FDCWD, file->path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    return link(file->partial, file->path) == 0 ? unlink(file->partial) : -1;
}

int new_file_finish(const struct new_file *file, struct err *err)
{
    char copy[PATH_MAX];
    int rc = sync_path(file->partial, 0, err);

    if (rc < 0)
        return rc;
    if (give_name(file) < 0)
        return errno == EEXIST
                   ? refuse_existing(file->path, err)
                   : err_errno(err, ERR_IO, "cannot name '%s' '%s'", file->partial, file->path);
    snprintf(copy, sizeof(copy), "%s", file->path);
    return sync_path(dirname(copy), O_DIRECTORY, err);
}

int new_file_check_room(const char *path, int64_t bytes, struct err *err)
{
    char copy[PATH_MAX], needed[TEXT_BYTES_MAX], there[TEXT_BYTES_MAX];
    const char *folder;
    struct statvfs disk;
    int64_t free_bytes;

    snprintf(copy, sizeof(copy), "%s", path);
    folder = dirname(copy);
    if (statvfs(folder, &disk) < 0)
        return err_errno(err, ERR_IO, "cannot write in '%s'", folder);
    free_bytes = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    if (free_bytes >= bytes)
        return 0;
    text_format_bytes(bytes, needed);
    text_format_bytes(free_bytes, there);
    return err_set(err, ERR_FULL, "no room in '%s': %s are needed, and %s are free", folder, needed,
                   there);
}
