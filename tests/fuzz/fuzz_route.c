/* SPDX-License-Identifier: MIT */
/*
 * Routes and a request for them. The input: routes, one a line, a NUL, the path, a NUL, the query.
 *
 * Of the routes that can be read the one is found that a plain search finds, after everything has been
 * decoded by hand. Then the same path and query go to a script, which compares what is in its request
 * with its own reading of them.
 *
 * libFuzzer: -max_len=600 -detect_leaks=0
 */
#include "script/route.h"

#include "base/log.h"
#include "base/text.h"
#include "script/script.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROUTES_MAX = 20, INPUT_MAX = 600 };

static const char handlers[] =
    "local authkit = require 'authkit'\n"
    "local function decode(text)\n"
    "  return (text:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))\n"
    "end\n"
    "local function check(ctx, request)\n"
    "  for key, value in pairs(request) do assert(type(key) == 'string' and value) end\n"
    "  assert(request.path == decode(raw), 'path')\n"
    "  local expected = {}\n"
    "  for pair in request.query_string:gsub('+', ' '):gmatch('[^&]+') do\n"
    "    local name, value = pair:match('^([^=]*)=(.*)$')\n"
    "    name, value = decode(name or pair), decode(value or '')\n"
    "    expected[name] = expected[name] or value\n"
    "  end\n"
    "  for name, value in pairs(expected) do\n"
    "    assert(request.query[name] == value and utf8.len(name) and utf8.len(value), 'query')\n"
    "  end\n"
    "  for name in pairs(request.query) do assert(expected[name], 'too much in the query') end\n"
    "  for name, value in pairs(request.params) do\n"
    "    assert(#value > 0 and utf8.len(value) and not value:find('\\0'), 'params')\n"
    "  end\n"
    "  return request.params\n"
    "end\n"
    "authkit.routes { ['GET /'] = check, ['GET /:a'] = check, ['GET /:a/b'] = check,\n"
    "  ['GET /:a/:b'] = check, ['GET /:a/b/:c'] = check }\n"
    "authkit.events { t = function(ctx, bytes)\n"
    "  for i = 1, #bytes do bytes[i] = string.char(bytes[i]) end\n"
    "  raw = table.concat(bytes) end }\n";

static struct db *db;
static struct script *script;

static void set_up(void)
{
    struct script_opts opts = {
        .memory_bytes = 64 << 20, .event_timeout_ms = 5000, .action_timeout_ms = 5000};
    char path[SCRATCH_PATH_MAX];
    struct err err;
    int fd = 0;

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    db = scratch_db();
    scratch_file(&fd, (const uint8_t *)handlers, strlen(handlers), path);
    opts.path = path;
    if (script_load(&script, &opts, &err) < 0)
        scratch_fail("set up", &err);
}

/* ------------------------------------------------------------------------- finding */

static bool is_hex(char c)
{
    return strchr("0123456789abcdefABCDEF", c) && c;
}

/* A second way to decode; false: a bad escape. Leaves a byte 0 and bad UTF-8 to others. */
static bool plainly_decode(const char *text, size_t len, char *out, size_t *out_len)
{
    *out_len = 0;
    for (size_t i = 0; i < len; i++) {
        char hex[3] = "";

        if (text[i] != '%') {
            out[(*out_len)++] = text[i];
            continue;
        }
        if (len - i < 3 || !is_hex(text[i + 1]) || !is_hex(text[i + 2]))
            return false;
        memcpy(hex, text + i + 1, 2);
        out[(*out_len)++] = (char)strtol(hex, NULL, 16);
        i += 2;
    }
    return true;
}

/* How good the route is for the path, the lower the better; -1: it doesn't fit. */
static int64_t rank_of(const struct route *route, const char *path)
{
    int64_t rank = 0;

    for (int i = 0; i < route->count; i++) {
        const struct route_segment *segment = &route->segments[i];
        const char *end;
        char decoded[INPUT_MAX];
        size_t len;

        if (*path != '/')
            return -1;
        end = strchr(path + 1, '/');
        end = end ? end : path + strlen(path);
        rank = rank * 2 + segment->is_parameter;
        if (segment->is_parameter && end == path + 1)
            return -1;
        if (!segment->is_parameter &&
            (!plainly_decode(path + 1, (size_t)(end - path - 1), decoded, &len) ||
             len != segment->len || memcmp(decoded, segment->text, len) != 0))
            return -1;
        path = end;
    }
    return *path ? -1 : rank;
}

static void check_decoding(const char *text)
{
    char ours[INPUT_MAX], plain[INPUT_MAX];
    size_t len, plain_len;
    bool ok = route_decode(text, strlen(text), false, ours, &len);

    if (!plainly_decode(text, strlen(text), plain, &plain_len)) {
        assert(!ok);
        return;
    }
    assert(ok == (!memchr(plain, '\0', plain_len) && text_is_utf8(plain, plain_len)));
    assert(!ok || (len == plain_len && memcmp(ours, plain, len) == 0));
}

static void check_route(const struct route *route)
{
    struct buf shape = BUF_INIT(2 * ROUTE_NAME_MAX);

    assert(route->count >= 1 && route->count <= ROUTE_SEGMENTS_MAX);
    for (int i = 0; i < route->count; i++)
        assert(route->segments[i].len > 0 || i == route->count - 1);
    route_put_shape(route, &shape);
    assert(buf_ok(&shape) && text_is_utf8(buf_text(&shape), shape.len));
    buf_release(&shape);
}

static void read_lines(const char *lines, struct routes *routes)
{
    while (*lines && routes->count < ROUTES_MAX) {
        size_t len = strcspn(lines, "\n");
        char *name = strndup(lines, len);
        struct err err = {0};

        if (route_read(&routes->items[routes->count], name, len, &err) == 0)
            check_route(&routes->items[routes->count++]);
        else
            assert(err.text[0]);
        free(name);
        lines += len + (lines[len] == '\n');
    }
    routes_sort(routes);
}

static void check_finding(const char *lines, const char *path)
{
    struct routes routes = {.items = calloc(ROUTES_MAX, sizeof(struct route))};

    read_lines(lines, &routes);
    for (int method = 0; method < ROUTE_METHODS; method++) {
        const struct route *found = routes_find(&routes, route_method_names[method], path);
        int64_t best = -1;

        if (method == ROUTE_HEAD && !routes_have(&routes, ROUTE_HEAD, path)) {
            assert(found == routes_find(&routes, "GET", path));
            continue;
        }
        for (size_t i = 0; i < routes.count; i++) {
            int64_t rank = rank_of(&routes.items[i], path);

            if ((int)routes.items[i].method == method && rank >= 0 && (best < 0 || rank < best))
                best = rank;
        }
        assert((found == NULL) == (best < 0));
        assert(!found || ((int)found->method == method && rank_of(found, path) == best));
    }
    routes_release(&routes);
}

/* ------------------------------------------------------------------------- in a script */

/* The script's own way to know the path as it was sent. */
static void tell_path(const char *path)
{
    struct buf text = BUF_INIT(65536);
    struct json event = {0};
    struct err err;

    buf_puts(&text, "[");
    for (const char *c = path; *c; c++)
        buf_printf(&text, "%s%d", c > path ? "," : "", (unsigned char)*c);
    buf_puts(&text, "]");
    if (json_read(&event, buf_text(&text), text.len, &err) < 0 ||
        script_run_event(script, db, "t", &event, false, &err) < 0)
        scratch_fail("the path", &err);
    json_release(&event);
    buf_release(&text);
}

static void check_request(const char *path, const char *query)
{
    struct http_request request = {
        .method = "GET", .path = path, .query = query, .body = "", .remote_addr = ""};
    struct script_caller caller = {.status = 401, .code = "x", .message = "x"};
    struct script_route_call call = {.request = &request, .caller = &caller};
    struct http_response response = {.body = BUF_INIT(65536), .headers = BUF_INIT(4096)};
    struct err err = {0};
    int rc;

    tell_path(path);
    rc = script_run_route(script, db, &call, &response, &err);
    assert((rc == ERR_ABSENT) == (script_find_route(script, "GET", path) != SCRIPT_ROUTE_FOUND));
    if (rc < 0 && rc != ERR_ABSENT && !call.refused)
        scratch_fail("the script", &err);
    assert(!call.refused || response.status == 400);
    buf_release(&response.body);
    buf_release(&response.headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[INPUT_MAX + 3] = "";
    const char *path, *query;

    if (!db)
        set_up();
    if (size > INPUT_MAX)
        size = INPUT_MAX;
    memcpy(text, data, size); /* with three '\0' behind it: the path and the query are there */
    path = text + strlen(text) + 1;
    query = path < text + size ? path + strlen(path) + 1 : path;
    check_decoding(path);
    check_decoding(query);
    check_finding(text, path);
    check_request(path, query);
    return 0;
}
