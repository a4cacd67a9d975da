/* SPDX-License-Identifier: MIT */
#include "auth/key_source.h"

#include "base/buf.h"
#include "base/text.h"
#include "fetch/fetch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECT_TIMEOUT_MS = 5000, STALL_MS = 5000, TIMEOUT_MS = 10000, PIECE = 4096 };

struct key_source {
    char *url;
    struct fetch *fetch; /* NULL: a file */
};

/* ---------------------------------------------------------------------------------- URLs */

/* What stands behind the scheme, or NULL when it is another one. Schemes have no case. */
static const char *behind_scheme(const char *url, const char *scheme)
{
    size_t len = strlen(scheme);

    return strncasecmp(url, scheme, len) == 0 ? url + len : NULL;
}

/* Of a file: URL, or NULL when it names none. */
static const char *path_of(const char *url)
{
    const char *path = behind_scheme(url, "file:");

    if (path && text_starts_with(path, "//"))
        path += 2; /* what would be a host stands here, and is left empty */
    return path && path[0] == '/' && path[1] != '/' ? path : NULL;
}

/* The host and what belongs to it; *out_len is 0 for a URL that has none. */
static const char *authority_of(const char *url, size_t *out_len)
{
    const char *host = behind_scheme(url, "https://");

    if (!host)
        host = behind_scheme(url, "http://");
    *out_len = host ? strcspn(host, "/?#") : 0;
    return host;
}

bool key_source_is_file(const char *url)
{
    return behind_scheme(url, "file:") != NULL;
}

const char *key_source_fault(const char *url)
{
    size_t len;
    const char *host;

    for (const char *c = url; *c; c++)
        if (*c <= ' ' || *c > '~')
            return "a URL without spaces and other odd characters (as %20 and the like, in an http "
                   "URL)";
    if (key_source_is_file(url)) {
        if (!path_of(url))
            return "a file's URL with its whole path, such as file:///etc/authkitd/keys.json";
        return strpbrk(url, "%?#") ? "a file's URL without '%', '?' and '#': the path is taken as "
                                     "it is written"
                                   : NULL;
    }
    host = authority_of(url, &len);
    if (len == 0 || host[0] == ':')
        return "a URL that begins with https://, http:// or file:";
    if (memchr(host, '@', len))
        return "a URL without a name and password";
    return strchr(url, '#') ? "a URL without '#'" : NULL;
}

bool key_source_is_open_to_others(const char *url)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t len;
    const char *host = authority_of(url, &len);

    if (!behind_scheme(url, "http://"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t own_len = strlen(own[i]);

        if (len >= own_len && strncasecmp(host, own[i], own_len) == 0 &&
            (len == own_len || host[own_len] == ':'))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------- open, close */

int key_source_open(struct key_source **out, const struct key_source_opts *opts, struct err *err)
{
    const struct fetch_opts fetch_opts = {
        .user_agent = opts->user_agent,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .stall_ms = STALL_MS,
        .timeout_ms = TIMEOUT_MS,
        .max_bytes = KEY_SOURCE_MAX_BYTES,
        .cancelled = opts->cancelled,
        .arg = opts->arg,
    };
    const char *fault = key_source_fault(opts->url);
    struct key_source *source;
    int rc = 0;

    if (fault)
        return err_set(err, ERR_INVALID, "keys can't be read from '%s': it must be %s", opts->url,
                       fault);
    source = calloc(1, sizeof(*source));
    if (source)
        source->url = strdup(opts->url);
    if (!source || !source->url)
        rc = err_set(err, ERR_NOMEM, "no memory for the place of the key set");
    else if (!key_source_is_file(opts->url))
        rc = fetch_new(&source->fetch, &fetch_opts, err);
    if (rc < 0) {
        key_source_close(source);
        return rc;
    }
    *out = source;
    return 0;
}

void key_source_close(struct key_source *source)
{
    if (!source)
        return;
    fetch_free(source->fetch);
    free(source->url);
    free(source);
}

/* ---------------------------------------------------------------------------------- reading */

/* Without O_NONBLOCK, to open a named pipe would be to wait for somebody who writes to it. */
static int open_file(const char *path, int *out_fd, struct err *err)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    int rc = 0;

    if (fd < 0)
        return err_errno(err, ERR_IO, "cannot open '%s'", path);
    if (fstat(fd, &st) < 0)
        rc = err_errno(err, ERR_IO, "cannot look at '%s'", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_IO, "'%s' isn't a regular file", path);
    if (rc < 0)
        close(fd);
    else
        *out_fd = fd;
    return rc;
}

static int read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = -1, rc = open_file(path, &fd, err);
    ssize_t n = 1;
    char *room;

    if (rc < 0)
        return rc;
    while (n > 0 && out->len <= KEY_SOURCE_MAX_BYTES && (room = buf_reserve(out, PIECE)) != NULL) {
        n = read(fd, room, PIECE);
        if (n > 0)
            buf_added(out, (size_t)n);
    }
    if (n < 0)
        rc = err_errno(err, ERR_IO, "cannot read '%s'", path);
    else if (out->len > KEY_SOURCE_MAX_BYTES)
        rc = err_set(err, ERR_LIMIT, "'%s' is larger than %d bytes", path, KEY_SOURCE_MAX_BYTES);
    else if (!buf_ok(out))
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    close(fd);
    return rc;
}

/* The query is cut off: it may hold what nobody else shall know. */
static int read_url(struct key_source *source, struct buf *out, int64_t *out_later_ms,
                    struct err *err)
{
    const struct fetch_request request = {.method = "GET", .url = source->url};
    struct fetch_response response = {0};
    int rc = fetch_call(source->fetch, &request, &response, err);

    if (rc < 0)
        return rc;
    *out_later_ms = response.retry_after_ms;
    if (response.status == 200) {
        *out = response.body;
        response.body = BUF_INIT(0);
    } else {
        rc = err_set(err, response.status == 429 ? ERR_BUSY : ERR_IO,
                     "%.*s: the answer is %d%s%s%s", (int)strcspn(source->url, "?"), source->url,
                     response.status, response.request_id[0] ? " (request " : "",
                     response.request_id, response.request_id[0] ? ")" : "");
        text_make_utf8(err->text);
    }
    fetch_response_release(&response);
    return rc;
}

int key_source_read(struct key_source *source, struct key_set **out, int64_t *out_later_ms,
                    struct err *err)
{
    struct buf text = BUF_INIT(KEY_SOURCE_MAX_BYTES + PIECE); /* room for a piece in advance */
    int rc;

    *out_later_ms = -1;
    rc = source->fetch ? read_url(source, &text, out_later_ms, err)
                       : read_file(path_of(source->url), &text, err);
    if (rc == 0) {
        rc = key_set_read(out, buf_text(&text), text.len, err);
        if (rc < 0)
            err_prefix(err, "%.*s: ", (int)strcspn(source->url, "?"), source->url);
    }
    buf_release(&text);
    return rc;
}
