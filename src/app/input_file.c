/* SPDX-License-Identifier: MIT */
#include "app/input_file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 4096, WRITER_WAIT_MS = 2000 };

/* What poll says of the file, within that time at most; 0 when that is nothing. */
static int wait_for_input(int fd, int ms)
{
    struct pollfd input = {.fd = fd, .events = POLLIN};
    int n;

    while ((n = poll(&input, 1, ms)) < 0 && errno == EINTR)
        ;
    return n > 0 ? input.revents : 0;
}

/* As read(2), but for a pipe or terminal with nothing in it (yet), which is waited for. */
static ssize_t read_patiently(int fd, char *room, size_t len)
{
    ssize_t n;

    while ((n = read(fd, room, len)) < 0 && (errno == EAGAIN || errno == EINTR))
        wait_for_input(fd, -1);
    return n;
}

static int read_all(int fd, const char *path, struct buf *out, struct err *err)
{
    char at_most[TEXT_BYTES_MAX];
    ssize_t n;

    do {
        char *room = buf_reserve(out, CHUNK);

        if (!room) {
            text_format_bytes((int64_t)out->max, at_most);
            return err_set(err, ERR_INVALID, "'%s' is too large: %s at most", path, at_most);
        }
        n = read_patiently(fd, room, CHUNK);
        if (n < 0)
            return err_errno(err, ERR_IO, "cannot read '%s'", path);
        buf_added(out, (size_t)n);
    } while (n > 0);
    return 0;
}

/*
 * A pipe that nobody has open for writing has an end at once, whether its writer has gone or is yet to come.
 * Of one that has gone poll tells (POLLHUP); else we are too early, and wait a while. A writer who says
 * nothing is no event: so the pipe is asked once more.
 */
static int read_pipe(int fd, const char *path, struct buf *out, struct err *err)
{
    size_t before = out->len;

    for (bool waited = false;; waited = true) {
        int rc = read_all(fd, path, out, err), seen;

        if (rc < 0 || out->len > before)
            return rc;
        seen = wait_for_input(fd, waited ? 0 : WRITER_WAIT_MS);
        if (seen && !(seen & POLLIN))
            return 0; /* nothing is what it had to say */
        if (!seen && waited)
            return err_set(err, ERR_INVALID, "'%s' is a pipe that nobody writes into", path);
    }
}

int input_file_read(const char *path, struct buf *out, struct err *err)
{
    /* To open a pipe without a writer would else wait for one. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;
    struct stat st;

    if (fd < 0)
        return err_errno(err, ERR_IO, "cannot read '%s'", path);
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
        rc = read_pipe(fd, path, out, err);
    else
        rc = read_all(fd, path, out, err);
    close(fd);
    return rc;
}
