/* SPDX-License-Identifier: MIT */
#include "store/lock.h"

#include "base/buf.h"
#include "base/text.h"
#include "store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    TEXT_MAX = LOCK_ADMIN_MAX + 64,

    /* lock_peek holds a shared lock for some microseconds, which must not turn a server away. */
    ACQUIRE_TRIES = 20,
    ACQUIRE_PAUSE_MS = 5,
};

struct lock {
    int fd;
    int db_fd; /* -1: the database isn't there yet */
    char *path;
};

/* The file beside the database itself, so that two names (a symbolic link) make one lock. Yours to
 * free; NULL when memory ran out. */
static char *lock_path(const char *db_path)
{
    struct buf path = BUF_INIT(2 * PATH_MAX);
    char *real = realpath(db_path, NULL); /* NULL when the database isn't there yet */

    buf_printf(&path, "%s.lock", real ? real : db_path);
    free(real);
    if (!buf_ok(&path)) {
        buf_release(&path);
        return NULL;
    }
    return buf_take(&path, NULL);
}

static void take_line(struct lock_holder *out, const char *line, size_t len)
{
    uint64_t pid;

    if (len > 4 && memcmp(line, "pid=", 4) == 0) {
        if (text_to_u64(line + 4, len - 4, INT_MAX, &pid))
            out->pid = (long)pid;
    } else if (len > 6 && memcmp(line, "admin=", 6) == 0 && len - 6 < LOCK_ADMIN_MAX) {
        memcpy(out->admin, line + 6, len - 6);
        out->admin[len - 6] = '\0';
    }
}

/* What cannot be read stays 0 and "": the holder may not have written it yet. */
static void read_holder(int fd, struct lock_holder *out)
{
    char text[TEXT_MAX];
    ssize_t len = pread(fd, text, sizeof(text), 0);
    const char *line = text, *end;

    *out = (struct lock_holder){0};
    if (len <= 0)
        return;
    while ((end = memchr(line, '\n', (size_t)(text + len - line)))) {
        take_line(out, line, (size_t)(end - line));
        line = end + 1;
    }
}

static int write_holder(const struct lock *lock, const char *admin, struct err *err)
{
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof(text), "pid=%ld\n", (long)getpid());

    if (*admin)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "admin=%s\n", admin);
    if (pwrite(lock->fd, text, (size_t)len, 0) != len || ftruncate(lock->fd, len) < 0)
        return err_errno(err, ERR_IO, "cannot write the lock file '%s'", lock->path);
    return 0;
}

static void free_lock(struct lock *lock)
{
    if (!lock)
        return;
    if (lock->fd >= 0)
        close(lock->fd);
    if (lock->db_fd >= 0)
        close(lock->db_fd);
    free(lock->path);
    free(lock);
}

/* 0, or -1 with errno EWOULDBLOCK when somebody keeps it. */
static int lock_patiently(int fd)
{
    const struct timespec pause = {.tv_nsec = ACQUIRE_PAUSE_MS * 1000000};

    for (int tries = 1; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK || tries == ACQUIRE_TRIES)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int refuse(int fd, const char *db_path, struct err *err)
{
    struct lock_holder holder;

    read_holder(fd, &holder);
    if (holder.pid == 0)
        return err_set(err, ERR_BUSY, "%s is in use by another authkitd", db_path);
    return err_set(err, ERR_BUSY, "%s is in use by another authkitd (pid %ld)", db_path,
                   holder.pid);
}

/* What root runs beside the database (authkitd maintain, say) must not leave a file that the server's
 * own user can't open. When the database isn't there yet its owner isn't known either. */
static void give_to_owner(int fd, const char *db_path)
{
    struct stat st, lock;

    if (geteuid() == 0 && stat(db_path, &st) == 0 && fstat(fd, &lock) == 0 && lock.st_nlink == 1)
        (void)!fchown(fd, st.st_uid, st.st_gid);
}

int lock_database(struct lock *lock, const char *db_path, struct err *err)
{
    if (lock->db_fd >= 0)
        return 0;
    lock->db_fd = open(db_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (lock->db_fd < 0 || lock_patiently(lock->db_fd) == 0)
        return 0; /* a file that can't be opened is for its opener to complain of */
    if (errno != EWOULDBLOCK)
        return err_errno(err, ERR_IO, "cannot lock '%s'", db_path);
    return err_set(err, ERR_BUSY,
                   "%s is in use by another authkitd, which has it under another name, or whose "
                   "'%s' was removed",
                   db_path, lock->path);
}

/* number is the errno that opening the lock file, or making it, gave. */
static int word_unopened(const char *path, int number, struct err *err)
{
    bool is_there = access(path, F_OK) == 0;
    struct err cause;

    if (!is_there && number != ENOENT && place_check_folder(path, &cause) < 0)
        return err_set(err, ERR_IO, "cannot make the lock file '%s': %s", path, cause.text);
    errno = number;
    if (number == ENOENT)
        return err_errno(err, ERR_IO, "cannot make the lock file '%s': its folder isn't there",
                         path);
    if (is_there && number == EACCES)
        return err_errno(err, ERR_IO, "this user (uid %u) can't open the lock file '%s'",
                         (unsigned)geteuid(), path);
    return err_errno(err, ERR_IO, "cannot open the lock file '%s'", path);
}

int lock_check(const char *db_path, struct err *err)
{
    char *path = lock_path(db_path);
    int rc = 0;

    if (!path)
        return err_set(err, ERR_NOMEM, "cannot look at the lock of %s: out of memory", db_path);
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) < 0 && errno != ENOENT)
        rc = word_unopened(path, errno, err);
    else if (access(path, F_OK) < 0 && place_check_folder(path, err) < 0)
        rc = err_prefix(err, "cannot make the lock file '%s': ", path);
    free(path);
    return rc;
}

int lock_acquire(struct lock **out, const char *db_path, struct err *err)
{
    struct lock *lock = calloc(1, sizeof(*lock));
    int rc;

    if (lock) {
        lock->fd = lock->db_fd = -1;
        lock->path = lock_path(db_path);
    }
    if (!lock || !lock->path) {
        rc = err_set(err, ERR_NOMEM, "cannot lock %s: out of memory", db_path);
        goto out;
    }
    rc = place_check_link(db_path, err); /* the lock beside the link would be another one later */
    if (rc < 0)
        goto out;
    /* No link: whoever may write in the folder could have root write to any file, and give it away. */
    lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock->fd < 0) {
        rc = word_unopened(lock->path, errno, err);
        goto out;
    }
    give_to_owner(lock->fd, db_path);
    if (lock_patiently(lock->fd) < 0) {
        rc = errno == EWOULDBLOCK ? refuse(lock->fd, db_path, err)
                                  : err_errno(err, ERR_IO, "cannot lock '%s'", lock->path);
        goto out;
    }
    rc = lock_database(lock, db_path, err);
    if (rc == 0)
        rc = write_holder(lock, "", err);
    if (rc < 0)
        goto out;
    *out = lock;
    lock = NULL;
out:
    free_lock(lock);
    return rc;
}

int lock_describe(struct lock *lock, const char *admin, struct err *err)
{
    if (strlen(admin) >= LOCK_ADMIN_MAX || strchr(admin, '\n'))
        return err_set(err, ERR_INVALID, "'%s' does not fit into the lock file", admin);
    return write_holder(lock, admin, err);
}

void lock_release(struct lock *lock)
{
    /* The text goes first, so that nobody takes it for the next holder's. If that fails it is as
     * after a crash: the next holder overwrites it. */
    if (lock)
        (void)!ftruncate(lock->fd, 0);
    free_lock(lock);
}

int lock_peek(const char *db_path, struct lock_holder *out, struct err *err)
{
    char *path = lock_path(db_path);
    int fd = -1;
    int rc;

    if (!path) {
        rc = err_set(err, ERR_NOMEM, "cannot look at the lock of %s: out of memory", db_path);
        goto out;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT) {
        rc = err_errno(err, ERR_IO, "cannot open the lock file '%s'", path);
        goto out;
    }
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0) {
        rc = err_set(err, ERR_ABSENT, "no authkitd runs with %s", db_path);
        goto out;
    }
    if (errno != EWOULDBLOCK) {
        rc = err_errno(err, ERR_IO, "cannot look at the lock '%s'", path);
        goto out;
    }
    read_holder(fd, out);
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}
