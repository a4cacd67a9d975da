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

static int complain_of_sync(const char *path, struct err *err)
{
    return err_errno(err, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO,
                     "cannot put '%s' on disk", path);
}

static int sync_file(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? complain_of_sync(path, err) : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* The name. A folder that one may write in and not look into can't be opened: then it is all that the
 * file's disk has to write, the folder among it. */
static int sync_name(const char *path, struct err *err)
{
    char copy[PATH_MAX];
    int folder, file, rc = 0;

    snprintf(copy, sizeof(copy), "%s", path);
    folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file = folder < 0 && errno == EACCES ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (folder >= 0 ? fsync(folder) < 0 : file < 0 || syncfs(file) < 0)
        rc = complain_of_sync(path, err);
    if (folder >= 0)
        close(folder);
    if (file >= 0)
        close(file);
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
    int rc = sync_file(file->partial, err);

    if (rc < 0)
        return rc;
    if (give_name(file) < 0)
        return errno == EEXIST
                   ? refuse_existing(file->path, err)
                   : err_errno(err, ERR_IO, "cannot name '%s' '%s'", file->partial, file->path);
    return sync_name(file->path, err);
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
