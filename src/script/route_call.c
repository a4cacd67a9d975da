/* SPDX-License-Identifier: MIT */
/* route_call - a request through the function of its route. */
#include "script/script_state.h"

#include <string.h>

enum { ANSWER_HEADERS_MAX = 8 * 1024 }; /* half of what the server takes: others add theirs */

/* ------------------------------------------------------------------------- which one */

enum script_route_match script_find_route(const struct script *script, const char *method,
                                          const char *path)
{
    const struct routes *routes = &script->origin->routes;

    if (routes_find(routes, method, path))
        return SCRIPT_ROUTE_FOUND;
    for (int i = 0; i < ROUTE_METHODS; i++)
        if (routes_have(routes, (enum route_method)i, path))
            return SCRIPT_ROUTE_NO_METHOD;
    return SCRIPT_ROUTE_NO_PATH;
}

void script_put_route_methods(const struct script *script, const char *path, struct buf *out)
{
    bool any = false;

    for (int i = 0; i < ROUTE_METHODS; i++) {
        if (routes_find(&script->origin->routes, route_method_names[i], path)) {
            buf_printf(out, "%s, ", route_method_names[i]);
            any = true;
        }
    }
    if (any)
        buf_puts(out, "OPTIONS");
}

/* native.route(name) -> its shape; raises what is wrong with it */
static int l_route(lua_State *L)
{
    const struct script_opts *opts = &script_of(L)->opts;
    struct buf *shape = push_buffer(L, 2 * ROUTE_NAME_MAX);
    struct route route;
    struct err err;
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len), *path, *taken = NULL;

    if (route_read(&route, name, len, &err) < 0)
        script_raise(L, "authkit.routes: %s", err.text);
    route_put_shape(&route, shape);
    path = route_static_path(&route);
    for (size_t i = 0; path && i < opts->taken_count; i++)
        if (strcmp(path, opts->taken_paths[i]) == 0)
            taken = opts->taken_paths[i];
    route_release(&route); /* nothing has raised since route_read */
    if (taken)
        script_raise(L, "authkit.routes: '%s': authkitd serves %s itself; choose another path",
                     name, taken);
    lua_pushlstring(L, buf_text(shape), shape->len);
    buf_release(shape);
    return 1;
}

void bind_route_open(lua_State *L)
{
    lua_pushcfunction(L, l_route);
    lua_setfield(L, -2, "route");
}

/* ------------------------------------------------------------------------- the call */

static int l_run_route(lua_State *L)
{
    enum { REQUEST = 1, FIRST_RESULT };
    struct route_run *run = lua_touserdata(L, 1);

    lua_settop(L, 0);
    push_request(L);
    if (!route_static_path(run->route)) {
        lua_getfield(L, REQUEST, "params"); /* a path that can't be decoded ends it here */
        lua_pop(L, 1);
    }
    push_function(L, "routes", run->route->name);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_CTX);
    lua_pushvalue(L, REQUEST);
    lua_call(L, 2, LUA_MULTRET);
    check_answer(L, FIRST_RESULT, &run->answer);
    return 0;
}

/* The answer becomes the response's; what it had of its own is kept where it doesn't contradict. */
static void hand_over(struct http_response *answer, struct http_response *response)
{
    size_t max = response->body.max;

    response->status = answer->status;
    response->content_type = answer->content_type;
    memcpy(response->own_type, answer->own_type, sizeof(response->own_type));
    buf_release(&response->body);
    response->body = answer->body;
    response->body.max = max;
    answer->body = BUF_INIT(0);
    buf_put(&response->headers, buf_text(&answer->headers), answer->headers.len);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

int script_run_route(struct script *script, struct db *db, struct script_route_call *call,
                     struct http_response *response, struct err *err)
{
    const struct http_request *request = call->request;
    struct route_run run = {
        .call = call,
        .route = routes_find(&script->origin->routes, request->method, request->path),
        .answer.body = BUF_INIT(smaller(response->body.max, HTTP_RESPONSE_MAX_BYTES)),
        .answer.headers = BUF_INIT(ANSWER_HEADERS_MAX),
    };
    int rc;

    call->refused = false;
    if (!run.route)
        return err_set(err, ERR_ABSENT, "no route fits %s %s", request->method, request->path);
    script->run = &run;
    script->read_only = call->read_only;
    rc = script_call(script, db, script->opts.memory_bytes, l_run_route, &run,
                     script->opts.route_timeout_ms, l_route_error, err);
    script->run = NULL;
    script->read_only = false;
    if (script->L)
        forget_claims(script->L);
    call->refused = rc == ERR_SCRIPT && script->refused;
    if (rc == 0)
        hand_over(&run.answer, response);
    else if (call->refused)
        put_refusal(&script->refusal, response);
    buf_release(&run.answer.body);
    buf_release(&run.answer.headers);
    return rc;
}
