/* SPDX-License-Identifier: MIT */
#include "app/env_file.h"

#include "app/input_file.h"
#include "base/buf.h"
#include "crypto/hmac.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_MAX_BYTES = 16 * 1024 * 1024,
    FAULTS_MAX_BYTES = 64 * 1024,
    FAULTS_TOLD_MAX = 10, /* a file that is something else altogether has nothing else */
};

struct entry {
    char *key;
    char *value;
    int line;
};

struct env_file {
    char *path;
    struct entry *entries;
    size_t count;
    struct buf faults;
    int fault_count;
};

static int pass_over(struct env_file *file, int line, const char *why)
{
    if (++file->fault_count <= FAULTS_TOLD_MAX)
        buf_printf(&file->faults, "%s%s:%d: %s", file->faults.len > 0 ? "\n" : "", file->path, line,
                   why);
    return 0;
}

static int add_entry(struct env_file *file, const char *key, size_t key_len, const char *value,
                     int line, struct err *err)
{
    struct entry *entries = realloc(file->entries, (file->count + 1) * sizeof(*entries));
    struct entry *entry;

    if (!entries)
        return err_set(err, ERR_NOMEM, "no memory for '%s'", file->path);
    file->entries = entries;
    entry = &entries[file->count];
    *entry = (struct entry){strndup(key, key_len), strdup(value), line};
    if (!entry->key || !entry->value) {
        free(entry->key);
        free(entry->value);
        return err_set(err, ERR_NOMEM, "no memory for '%s'", file->path);
    }
    file->count++;
    return 0;
}

/* Of the byte order mark that some editors put in front of UTF-8; 0 when there is none. */
static size_t mark_length(const char *text, size_t len)
{
    return len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

static size_t key_length(const char *text)
{
    size_t len = 0;

    if (isdigit((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[len]) || text[len] == '_')
        len++;
    return len;
}

/* Take the quotes off in place; false when the closing one is missing or something follows it. */
static bool unquote(char *value)
{
    char quote = value[0], *from = value + 1, *to = value;

    for (; *from && *from != quote; from++) {
        if (quote == '"' && *from == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        *to++ = *from;
    }
    if (*from != quote || from[1] != '\0')
        return false;
    *to = '\0';
    return true;
}

static int read_line(struct env_file *file, char *text, size_t len, int line, struct err *err)
{
    size_t mark = line == 1 ? mark_length(text, len) : 0, key_len;
    char *value;

    if (memchr(text, '\0', len))
        return pass_over(file, line, "it has a NUL byte, as UTF-16 has; save it as UTF-8");
    text += mark;
    len -= mark;
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    while (isspace((unsigned char)*text))
        text++;
    if (*text == '\0' || *text == '#')
        return 0;
    if (strncmp(text, "export ", 7) == 0)
        text += 7 + strspn(text + 7, " \t");
    key_len = key_length(text);
    if (key_len == 0 || text[key_len] != '=')
        return pass_over(file, line, "this isn't KEY=value (no spaces around the '=')");
    value = text + key_len + 1;
    if ((*value == '"' || *value == '\'') && !unquote(value))
        return pass_over(file, line, "the value's quotes don't match");
    return add_entry(file, text, key_len, value, line, err);
}

/* The lines are cut apart in place. */
static int read_lines(struct env_file *file, struct buf *bytes, struct err *err)
{
    char *line = bytes->data, *end = line + bytes->len;
    int number = 0, rc = 0;

    while (rc == 0 && line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *line_end = newline ? newline : end;

        *line_end = '\0';
        rc = read_line(file, line, (size_t)(line_end - line), ++number, err);
        line = line_end + 1;
    }
    if (file->fault_count > FAULTS_TOLD_MAX)
        buf_printf(&file->faults, "\n%s: and %d more such lines", file->path,
                   file->fault_count - FAULTS_TOLD_MAX);
    return rc;
}

int env_file_read(struct env_file **out, const char *path, struct err *err)
{
    struct env_file *file = calloc(1, sizeof(*file));
    struct buf bytes = BUF_INIT(FILE_MAX_BYTES);
    int rc;

    if (file)
        *file = (struct env_file){.path = strdup(path), .faults = BUF_INIT(FAULTS_MAX_BYTES)};
    if (!file || !file->path)
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    else
        rc = input_file_read(path, &bytes, err);
    if (rc == 0)
        rc = read_lines(file, &bytes, err);
    if (bytes.data)
        crypto_wipe(bytes.data, bytes.cap);
    buf_release(&bytes);
    if (rc < 0) {
        env_file_free(file);
        return rc;
    }
    *out = file;
    return 0;
}

void env_file_free(struct env_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->count; i++) {
        crypto_wipe(file->entries[i].value, strlen(file->entries[i].value));
        free(file->entries[i].key);
        free(file->entries[i].value);
    }
    buf_release(&file->faults);
    free(file->entries);
    free(file->path);
    free(file);
}

const char *env_file_faults(const struct env_file *file)
{
    return file && file->faults.len > 0 ? file->faults.data : NULL;
}

const char *env_file_path(const struct env_file *file)
{
    return file->path;
}

const char *env_file_get(const struct env_file *file, const char *key, int *out_line)
{
    for (size_t i = file ? file->count : 0; i > 0; i--) {
        if (strcmp(file->entries[i - 1].key, key) == 0) {
            *out_line = file->entries[i - 1].line;
            return file->entries[i - 1].value;
        }
    }
    return NULL;
}

size_t env_file_count(const struct env_file *file)
{
    return file ? file->count : 0;
}

const char *env_file_at(const struct env_file *file, size_t i, int *out_line)
{
    *out_line = file->entries[i].line;
    return file->entries[i].key;
}

/* ---------------------------------------------------------------------------------- writing */

/* The file's bytes; nothing, when it isn't there. st is that of the file, or all zero. */
static int read_bytes(const char *path, struct buf *out, struct stat *st, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0; /* a pipe isn't waited for */
    ssize_t n = 1;

    *st = (struct stat){0};
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, ERR_IO, "cannot open '%s'", path);
    if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))
        rc = err_set(err, ERR_INVALID, "'%s' is no file that can be written anew", path);
    while (rc == 0 && n > 0) {
        char *room = buf_reserve(out, 65536);

        n = room ? read(fd, room, 65536) : 0;
        if (n < 0)
            rc = err_errno(err, ERR_IO, "cannot read '%s'", path);
        else if (!room)
            rc = err_set(err, ERR_INVALID, "'%s' is too large for an env file", path);
        else
            buf_added(out, (size_t)n);
    }
    close(fd);
    return rc;
}

/* Where the value of the line's key begins; NULL when the line is none of that key. */
static const char *value_in_line(const char *line, size_t len, const char *key)
{
    const char *at = line, *end = line + len;
    size_t key_len = strlen(key);

    while (at < end && isspace((unsigned char)*at))
        at++;
    if (end - at > 7 && memcmp(at, "export ", 7) == 0)
        for (at += 7; at < end && (*at == ' ' || *at == '\t');)
            at++;
    if ((size_t)(end - at) <= key_len || memcmp(at, key, key_len) != 0 || at[key_len] != '=')
        return NULL;
    return at + key_len + 1;
}

static void put_value(struct buf *out, const char *value)
{
    bool plain = true;

    for (const char *c = value; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-.,:/+=@", *c))
            plain = false;
    if (plain) {
        buf_puts(out, value);
        return;
    }
    buf_putc(out, '"');
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *value);
    }
    buf_putc(out, '"');
}

static void put_changed(struct buf *out, const struct buf *old, const char *key, const char *value)
{
    const char *text = buf_text(old), *end = text + old->len;
    const char *from = NULL, *to = NULL; /* the old value */

    for (const char *line = text + mark_length(text, old->len); line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;
        const char *found = value_in_line(line, (size_t)(line_end - line), key);

        if (found) {
            from = found;
            to = line_end > found && line_end[-1] == '\r' ? line_end - 1 : line_end;
        }
        line = line_end + 1;
    }
    buf_put(out, text, from ? (size_t)(from - text) : old->len);
    if (!from) {
        if (old->len > 0 && end[-1] != '\n')
            buf_putc(out, '\n');
        buf_printf(out, "%s=", key);
    }
    put_value(out, value);
    if (from)
        buf_put(out, to, (size_t)(end - to));
    else
        buf_putc(out, '\n');
}

static int write_bytes(int fd, const struct buf *bytes)
{
    size_t done = 0;

    while (done < bytes->len) {
        ssize_t n = write(fd, bytes->data + done, bytes->len - done);

        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return fsync(fd);
}

/* So that the new name is on disk, too. What can't be done about it now, nobody needs to hear. */
static void sync_folder_of(const char *path)
{
    char copy[PATH_MAX];
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!fsync(fd);
    close(fd);
}

/* Who could read the file before still can: a service's group, say. The owner first, for chown takes bits of
 * the mode away. Of a file that wasn't there st is all zero. */
static int keep_access(int fd, const struct stat *st)
{
    if (st->st_nlink == 0)
        return 0;
    return fchown(fd, st->st_uid, st->st_gid) < 0 || fchmod(fd, st->st_mode & 0777) < 0 ? -1 : 0;
}

/* Beside the file, then in its place. */
static int replace(const char *path, const struct buf *bytes, const struct stat *st,
                   struct err *err)
{
    char temporary[PATH_MAX + 8];
    int fd, rc = 0;

    snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return err_errno(err, ERR_IO, "cannot write beside '%s'", path);
    if (keep_access(fd, st) < 0 || write_bytes(fd, bytes) < 0 || rename(temporary, path) < 0) {
        rc = err_errno(err, ERR_IO, "cannot write '%s'", path);
        unlink(temporary);
    }
    close(fd);
    if (rc == 0)
        sync_folder_of(path);
    return rc;
}

int env_file_set(const char *path, const char *key, const char *value, struct err *err)
{
    struct buf old = BUF_INIT(FILE_MAX_BYTES), new = BUF_INIT(FILE_MAX_BYTES);
    char real[PATH_MAX];
    struct stat st;
    int rc;

    if (realpath(path, real)) /* a link stays a link */
        path = real;
    rc = strlen(path) < PATH_MAX - 8 ? 0 : err_set(err, ERR_INVALID, "'%s' is too long", path);
    if (rc == 0)
        rc = read_bytes(path, &old, &st, err);
    if (rc < 0)
        goto out;
    put_changed(&new, &old, key, value);
    if (!buf_ok(&new))
        rc = err_set(err, ERR_INVALID, "'%s' would be too large for an env file", path);
    else
        rc = replace(path, &new, &st, err);
out:
    if (old.data)
        crypto_wipe(old.data, old.cap);
    if (new.data)
        crypto_wipe(new.data, new.cap);
    buf_release(&old);
    buf_release(&new);
    return rc;
}
