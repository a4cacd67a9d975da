/* SPDX-License-Identifier: MIT */
#include "script/route.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

const char *const route_method_names[ROUTE_METHODS] = {"GET", "HEAD",  "POST",
                                                       "PUT", "PATCH", "DELETE"};

/* ------------------------------------------------------------------------- decoding */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The next character behind *at, or -1: a bad escape. */
static int next_byte(const char *text, size_t len, size_t *at)
{
    char c = text[(*at)++];
    int high, low;

    if (c != '%')
        return (unsigned char)c;
    if (len - *at < 2)
        return -1;
    high = hex_value(text[(*at)++]);
    low = hex_value(text[(*at)++]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool route_decode(const char *text, size_t len, bool plus_is_space, char *out, size_t *out_len)
{
    size_t at = 0, count = 0;

    while (at < len) {
        bool is_plus = text[at] == '+';
        int byte = next_byte(text, len, &at);

        if (byte <= 0)
            return false;
        out[count++] = plus_is_space && is_plus ? ' ' : (char)byte;
    }
    *out_len = count;
    return text_is_utf8(out, count);
}

/* Whether the part of a path is that text, once decoded. */
static bool part_is(const char *part, size_t len, const struct route_segment *segment)
{
    size_t at = 0, count = 0;

    while (at < len) {
        int byte = next_byte(part, len, &at);

        if (count == segment->len || byte != (unsigned char)segment->text[count++])
            return false;
    }
    return count == segment->len;
}

/* ------------------------------------------------------------------------- reading */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static int refuse(struct err *err, const char *name, const char *what)
{
    return err_set(err, ERR_INVALID, "'%.200s': %s", name, what);
}

static int read_method(struct route *out, const char *name, struct err *err)
{
    size_t len = strcspn(name, " ");

    if (name[len] != ' ' || name[len + 1] != '/')
        return err_set(err, ERR_INVALID, "'%.200s' isn't a route; they look like \"GET /todos\"",
                       name);
    for (int i = 0; i < ROUTE_METHODS; i++) {
        if (strlen(route_method_names[i]) == len && memcmp(name, route_method_names[i], len) == 0) {
            out->method = (enum route_method)i;
            return 0;
        }
    }
    if (len == 7 && memcmp(name, "OPTIONS", len) == 0)
        return refuse(err, name,
                      "OPTIONS is answered by itself; --cors-origin says which pages may ask");
    return refuse(err, name, "there are the methods GET, HEAD, POST, PUT, PATCH and DELETE");
}

static int check_characters(const char *name, const char *path, struct err *err)
{
    for (const char *c = path; *c; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7F)
            return refuse(err, name, "a path has no spaces and control characters");
        if (*c == '?')
            return refuse(err, name,
                          "what is behind a '?' is no part of a route; it is in request.query");
        if (*c == '*')
            return refuse(err, name, "there is no '*': a parameter such as :name is one segment");
        if (*c == '{' || *c == '<')
            return refuse(err, name, "a parameter is written with a colon, such as :name");
        if (*c == '%')
            return refuse(err, name, "write it decoded: paths are compared without their '%'");
        if (*c == '#')
            return refuse(err, name, "a path has no '#': it doesn't come with a request");
    }
    if (!text_is_utf8(path, strlen(path)))
        return refuse(err, name, "it isn't valid UTF-8");
    return 0;
}

static int read_parameter(struct route *out, struct route_segment *segment, struct err *err)
{
    segment->is_parameter = true;
    segment->text++;
    segment->len--;
    if (segment->len == 0)
        return refuse(err, out->name, "a parameter needs a name behind its ':'");
    for (size_t i = 0; i < segment->len; i++)
        if (!is_word(segment->text[i]))
            return refuse(err, out->name,
                          "a parameter is a whole segment, ':' and letters, digits and '_'");
    for (const struct route_segment *other = out->segments; other < segment; other++)
        if (other->is_parameter && other->len == segment->len &&
            memcmp(other->text, segment->text, segment->len) == 0)
            return err_set(err, ERR_INVALID, "'%.200s': the parameter :%.*s is in it twice",
                           out->name, (int)segment->len, segment->text);
    return 0;
}

static int read_segments(struct route *out, const char *path, struct err *err)
{
    int rc = 0;

    while (rc == 0 && *path) {
        struct route_segment *segment = &out->segments[out->count];

        if (out->count == ROUTE_SEGMENTS_MAX)
            return refuse(err, out->name, "it has too many segments");
        path++; /* the '/' */
        *segment = (struct route_segment){.text = path, .len = strcspn(path, "/")};
        path += segment->len;
        if (segment->len == 0 && *path)
            return refuse(err, out->name, "a segment is empty: there is a '//' in it");
        if (segment->text[0] == ':')
            rc = read_parameter(out, segment, err);
        out->count++;
    }
    return rc;
}

int route_read(struct route *out, const char *name, size_t len, struct err *err)
{
    struct route route = {0};
    const char *path;
    int rc;

    if (strlen(name) != len)
        return refuse(err, name, "a path has no spaces and control characters");
    if (len > ROUTE_NAME_MAX)
        return refuse(err, name, "it is too long");
    rc = read_method(&route, name, err);
    if (rc < 0)
        return rc;
    route.name = strdup(name);
    if (!route.name)
        return err_set(err, ERR_NOMEM, "no memory for the route '%s'", name);
    path = strchr(route.name, ' ') + 1;
    rc = check_characters(name, path, err);
    if (rc == 0)
        rc = read_segments(&route, path, err);
    if (rc < 0)
        route_release(&route);
    else
        *out = route;
    return rc;
}

void route_release(struct route *route)
{
    free(route->name);
    route->name = NULL;
}

void route_put_shape(const struct route *route, struct buf *out)
{
    buf_puts(out, route_method_names[route->method]);
    buf_putc(out, ' ');
    for (int i = 0; i < route->count; i++) {
        const struct route_segment *segment = &route->segments[i];

        buf_putc(out, '/');
        if (segment->is_parameter)
            buf_putc(out, ':');
        else
            buf_put(out, segment->text, segment->len);
    }
}

const char *route_static_path(const struct route *route)
{
    for (int i = 0; i < route->count; i++)
        if (route->segments[i].is_parameter)
            return NULL;
    return strchr(route->name, ' ') + 1;
}

/* ------------------------------------------------------------------------- finding */

/* By method; then, of two that could both fit one path, the one that is to be tried first. */
static int compare_routes(const void *a, const void *b)
{
    const struct route *one = a, *other = b;

    if (one->method != other->method)
        return (int)one->method - (int)other->method;
    if (one->count != other->count)
        return one->count - other->count;
    for (int i = 0; i < one->count; i++)
        if (one->segments[i].is_parameter != other->segments[i].is_parameter)
            return one->segments[i].is_parameter ? 1 : -1;
    return strcmp(one->name, other->name);
}

void routes_sort(struct routes *routes)
{
    if (routes->count > 0)
        qsort(routes->items, routes->count, sizeof(routes->items[0]), compare_routes);
}

void routes_release(struct routes *routes)
{
    for (size_t i = 0; i < routes->count; i++)
        route_release(&routes->items[i]);
    free(routes->items);
    *routes = (struct routes){0};
}

static bool fits(const struct route *route, const char *path)
{
    for (int i = 0; i < route->count; i++) {
        const struct route_segment *segment = &route->segments[i];
        size_t len;

        if (*path != '/')
            return false;
        len = strcspn(++path, "/");
        if (segment->is_parameter ? len == 0 : !part_is(path, len, segment))
            return false;
        path += len;
    }
    return *path == '\0';
}

static const struct route *find(const struct routes *routes, enum route_method method,
                                const char *path)
{
    for (size_t i = 0; i < routes->count; i++)
        if (routes->items[i].method == method && fits(&routes->items[i], path))
            return &routes->items[i];
    return NULL;
}

const struct route *routes_find(const struct routes *routes, const char *method, const char *path)
{
    const struct route *found = NULL;
    int i = 0;

    while (i < ROUTE_METHODS && strcmp(route_method_names[i], method) != 0)
        i++;
    if (i < ROUTE_METHODS)
        found = find(routes, (enum route_method)i, path);
    return !found && i == ROUTE_HEAD ? find(routes, ROUTE_GET, path) : found;
}

bool routes_have(const struct routes *routes, enum route_method method, const char *path)
{
    return find(routes, method, path) != NULL;
}

const char *route_part(const char *path, int i, size_t *out_len)
{
    path++;
    for (; i > 0; i--)
        path += strcspn(path, "/") + 1;
    *out_len = strcspn(path, "/");
    return path;
}
