/* SPDX-License-Identifier: MIT */
/*
 * route - "GET /todos/:id": what a script declares, and which request it fits.
 *
 * A pattern is a path of segments, each a text or a parameter (":id"). A path fits when it has as
 * many segments and each fits its own, decoded: a text only itself, a parameter whatever isn't
 * empty. Of the routes that fit, the one that has a text where another has a parameter goes first,
 * and the leftmost such place decides: of /a/b/:y and /a/:x/c it is the former that gets /a/b/c. A
 * slash at the end is an empty segment, and so makes another path.
 *
 * Threads    any: a route doesn't change, and nothing is kept.
 * Ownership  a struct route owns its name, which its segments point into.
 * Errors     route_read: ERR_INVALID names the route and says what is wrong; ERR_NOMEM.
 * Limits     ROUTE_SEGMENTS_MAX, ROUTE_NAME_MAX.
 * Not here   the functions (lua/authkit.lua), the calls (route_call.c). Nothing of Lua.
 */
#ifndef SCRIPT_ROUTE_H
#define SCRIPT_ROUTE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { ROUTE_SEGMENTS_MAX = 32, ROUTE_NAME_MAX = 1000 };

/* In the order in which they are listed. */
enum route_method {
    ROUTE_GET,
    ROUTE_HEAD,
    ROUTE_POST,
    ROUTE_PUT,
    ROUTE_PATCH,
    ROUTE_DELETE,
    ROUTE_METHODS,
};

extern const char *const route_method_names[ROUTE_METHODS];

struct route {
    char *name; /* as it was declared */
    enum route_method method;
    int count;
    struct route_segment {
        const char *text; /* of a parameter: its name */
        size_t len;
        bool is_parameter;
    } segments[ROUTE_SEGMENTS_MAX];
};

int route_read(struct route *out, const char *name, size_t len, struct err *err) MUST_CHECK;
void route_release(struct route *route);

/* Append what two routes have in common when they take the same requests: "GET /todos/:". */
void route_put_shape(const struct route *route, struct buf *out);

/* The path of a route without parameters; NULL when it has some. */
const char *route_static_path(const struct route *route);

/* Routes in the order in which they are tried: the first one that fits is the right one. */
struct routes {
    struct route *items;
    size_t count;
};

void routes_sort(struct routes *routes);
void routes_release(struct routes *routes);

/* The route for a request, or NULL. path is as it was sent; a segment that can't be decoded fits
 * parameters only. A HEAD is a GET where no route of its own fits. */
const struct route *routes_find(const struct routes *routes, const char *method, const char *path);

/* Whether some route of the method fits; method may be any of enum route_method. */
bool routes_have(const struct routes *routes, enum route_method method, const char *path);

/* The part of the path that stands for segment i of a route that fits it, not decoded. */
const char *route_part(const char *path, int i, size_t *out_len);

/*
 * Undo percent-encoding. out has room for len bytes; *out_len is how many there are. False: a '%'
 * without two hexadecimal digits, or what comes out isn't UTF-8 or has a byte 0 in it.
 */
bool route_decode(const char *text, size_t len, bool plus_is_space, char *out, size_t *out_len);

#endif
