/* SPDX-License-Identifier: MIT */
#include "script/source.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    struct file *next;
    char *name; /* relative to the folder */
    char *text;
    size_t len;
};

struct source {
    char *folder; /* with the '/' at its end, or "" */
    struct file *main;

    pthread_mutex_t lock;
    struct file *files; /* guarded by lock: the list, not what is in it, which stays as it is. The
                           script itself is the last one, the first one read */
};

static int read_all(int fd, const char *path, struct buf *out, struct err *err)
{
    for (;;) {
        char *room = buf_reserve(out, 16384);
        ssize_t n;

        if (!room)
            return err_set(err, ERR_INVALID, "'%s' is larger than %d bytes", path,
                           SOURCE_MAX_BYTES);
        n = read(fd, room, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, ERR_IO, "cannot read '%s'", path);
        if (n == 0)
            return 0;
        buf_added(out, (size_t)n);
    }
}

/* O_NONBLOCK: opening a FIFO by mistake must not hang. */
static int read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    int rc;

    if (fd < 0)
        return err_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_ABSENT : ERR_IO,
                         "cannot open '%s'", path);
    if (fstat(fd, &st) < 0)
        rc = err_errno(err, ERR_IO, "cannot look at '%s'", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_IO, "cannot read '%s': it isn't a file", path);
    else
        rc = read_all(fd, path, out, err);
    close(fd);
    return rc;
}

/* What editors and shells put at the start of a file isn't Lua. Line numbers must stay right. */
static void blank_prefix(char *text, size_t len)
{
    size_t at = 0;

    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        for (; at < 3; at++)
            text[at] = ' ';
    if (at < len && text[at] == '#')
        for (; at < len && text[at] != '\n'; at++)
            text[at] = ' ';
}

/* What luac writes. Lua says of it which mode it was to be loaded in, and not of which file. */
static bool is_compiled(const struct buf *text)
{
    return text->len > 0 && text->data[0] == '\x1B';
}

static int add_file(struct source *source, const char *name, struct file **out, struct err *err)
{
    struct buf path = BUF_INIT(4096), text = BUF_INIT(SOURCE_MAX_BYTES + 16384);
    struct file *file = NULL;
    int rc;

    buf_puts(&path, source->folder);
    buf_puts(&path, name);
    if (!buf_ok(&path)) {
        rc = err_set(err, ERR_INVALID, "the path of '%s' is too long", name);
        goto out;
    }
    rc = read_file(buf_text(&path), &text, err);
    if (rc == 0 && is_compiled(&text))
        rc = err_set(err, ERR_SCRIPT, "%s is compiled Lua: give its source", name);
    if (rc < 0)
        goto out;
    file = calloc(1, sizeof(*file));
    if (!file || !(file->name = strdup(name))) {
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", name);
        goto out;
    }
    file->text = buf_take(&text, &file->len);
    if (file->text)
        blank_prefix(file->text, file->len);
    file->next = source->files;
    source->files = file;
    *out = file;
    file = NULL;
out:
    if (file)
        free(file->name);
    free(file);
    buf_release(&path);
    buf_release(&text);
    return rc;
}

int source_new(struct source **out, const char *path, struct err *err)
{
    struct source *source = calloc(1, sizeof(*source));
    const char *slash = strrchr(path, '/');
    int rc = ERR_NOMEM;

    if (!source)
        return err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    pthread_mutex_init(&source->lock, NULL);
    source->folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup("");
    if (!source->folder) {
        err_set(err, ERR_NOMEM, "no memory for '%s'", path);
        goto fail;
    }
    rc = add_file(source, slash ? slash + 1 : path, &source->main, err);
    if (rc < 0)
        goto fail;
    *out = source;
    return 0;
fail:
    source_free(source);
    return rc;
}

void source_free(struct source *source)
{
    if (!source)
        return;
    while (source->files) {
        struct file *file = source->files;

        source->files = file->next;
        free(file->name);
        free(file->text);
        free(file);
    }
    pthread_mutex_destroy(&source->lock);
    free(source->folder);
    free(source);
}

static struct source_text text_of(const struct file *file)
{
    return (struct source_text){file->name, file->text ? file->text : "", file->len};
}

struct source_text source_main(const struct source *source)
{
    return text_of(source->main);
}

/* Parts of letters, digits, '_' and '-', joined by single dots: nothing that leaves the folder. */
static bool is_module_name(const char *name)
{
    bool part_begins = true;

    if (strlen(name) > 200)
        return false;
    for (; *name; name++) {
        if (*name == '.' && part_begins)
            return false;
        if (*name != '.' && !isalnum((unsigned char)*name) && *name != '_' && *name != '-')
            return false;
        part_begins = *name == '.';
    }
    return !part_begins;
}

/* Called with the lock held. */
static struct file *find_file(const struct source *source, const char *name)
{
    struct file *file = source->files;

    while (file && strcmp(file->name, name) != 0)
        file = file->next;
    return file;
}

bool source_find(struct source *source, const char *file, struct source_text *out)
{
    const struct file *found;

    pthread_mutex_lock(&source->lock);
    found = find_file(source, file);
    pthread_mutex_unlock(&source->lock);
    if (found)
        *out = text_of(found);
    return found != NULL;
}

const char *source_line(const struct source_text *text, int line, size_t *out_len)
{
    const char *at = text->text, *end = text->text + text->len, *newline;

    while (--line > 0 && (newline = memchr(at, '\n', (size_t)(end - at))))
        at = newline + 1;
    if (line > 0)
        at = end;
    newline = memchr(at, '\n', (size_t)(end - at));
    *out_len = (size_t)((newline ? newline : end) - at);
    return at;
}

/* The lock is held while a file is read: who asks for the same one gets the same text. */
static int find_or_add(struct source *source, const char *name, struct file **out, struct err *err)
{
    struct file *file;
    int rc = 0;

    pthread_mutex_lock(&source->lock);
    file = find_file(source, name);
    if (file)
        *out = file;
    else
        rc = add_file(source, name, out, err);
    pthread_mutex_unlock(&source->lock);
    return rc;
}

int source_module(struct source *source, const char *name, struct source_text *out, struct err *err)
{
    struct buf file_name = BUF_INIT(256);
    struct file *file = NULL;
    int rc;

    if (!is_module_name(name))
        return err_set(err, ERR_INVALID,
                       "'%.100s' can't be a module: modules are files beside the script, named "
                       "with letters, digits, '_', '-' and dots between folders",
                       name);
    for (const char *c = name; *c; c++)
        buf_putc(&file_name, *c == '.' ? '/' : *c);
    buf_puts(&file_name, ".lua");
    rc = find_or_add(source, buf_text(&file_name), &file, err);
    if (rc == ERR_ABSENT) {
        file_name.len -= strlen(".lua");
        buf_puts(&file_name, "/init.lua");
        rc = find_or_add(source, buf_text(&file_name), &file, err);
    }
    if (rc == ERR_ABSENT) {
        file_name.len -= strlen("/init.lua");
        file_name.data[file_name.len] = '\0';
        rc = err_set(err, ERR_ABSENT,
                     "module '%s' not found: there is no %s.lua (nor %s/init.lua) "
                     "in the folder of the script",
                     name, buf_text(&file_name), buf_text(&file_name));
    }
    if (rc == 0)
        *out = text_of(file);
    buf_release(&file_name);
    return rc;
}
