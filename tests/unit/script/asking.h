/* SPDX-License-Identifier: MIT */
/*
 * asking - requests to the routes of a bench's script, and what comes of them as one text.
 *
 * A request is written as "METHOD /path?query"; headers, body and caller are set before. The answer
 * is told as "200 text/plain; charset=utf-8|X-A: b\r\n|body"; a refusal begins with "refused ".
 */
#ifndef TESTS_UNIT_SCRIPT_ASKING_H
#define TESTS_UNIT_SCRIPT_ASKING_H

#include "bench.h"

#include <stdlib.h>

enum { ASKING_TEXT_MAX = 65536 };

struct asking {
    struct bench b;
    struct http_header headers[8];
    size_t header_count;
    const char *body;
    size_t body_len;
    struct json claims; /* of text; count 0: nobody's */
    struct script_caller caller;
    bool read_only;
    struct http_response response; /* of the last call */
    char told[ASKING_TEXT_MAX];
};

static const char asking_tables[] =
    "CREATE TABLE workos_users (id TEXT, email TEXT, external_id TEXT, metadata TEXT,"
    " created_at TEXT);"
    "INSERT INTO workos_users VALUES ('user_1', 'ada@x.com', NULL, '{}', '2026');"
    "CREATE TABLE workos_organizations (id TEXT, name TEXT);"
    "INSERT INTO workos_organizations VALUES ('org_1', 'Analytical Engines')";

/* The claims of the token that comes with the requests; NULL: none comes. */
static inline void asking_as(struct asking *a, const char *claims)
{
    static char user_id[256];
    struct err err;
    uint32_t sub;

    a->caller = (struct script_caller){
        .status = 401, .code = "token_missing", .message = "the Authorization header is missing"};
    if (!claims)
        return;
    if (json_read(&a->claims, claims, strlen(claims), &err) < 0)
        fail_msg("%s", err.text);
    sub = json_string_member(&a->claims, 0, "sub");
    user_id[sub == JSON_ABSENT ? 0 : json_decode(&a->claims, sub, user_id)] = '\0';
    a->caller = (struct script_caller){.claims = &a->claims, .user_id = user_id};
}

static inline void asking_open(struct asking *a)
{
    *a = (struct asking){.body = ""};
    bench_open(&a->b);
    a->b.timeout_ms = 5000;
    if (db_exec(a->b.db, asking_tables, &a->b.err) < 0)
        fail_msg("%s", a->b.err.text);
    asking_as(a, NULL);
}

static inline void asking_release(struct asking *a)
{
    buf_release(&a->response.body);
    buf_release(&a->response.headers);
}

static inline void asking_close(struct asking *a)
{
    asking_release(a);
    json_release(&a->claims);
    bench_close(&a->b);
}

/* A script of this text behind "local authkit = require 'authkit'" on the first line. */
static inline void asking_load(struct asking *a, const char *text)
{
    char whole[16384];

    snprintf(whole, sizeof(whole), "local authkit = require 'authkit'\n%s\n", text);
    bench_load(&a->b, whole);
    bench_ok(&a->b);
    bench_schema(&a->b, true);
    bench_ok(&a->b);
}

/* A script with the one route, whose function has this body, from line 3 on. */
static inline void asking_route(struct asking *a, const char *route, const char *body)
{
    char text[8192];

    snprintf(text, sizeof(text), "authkit.routes { ['%s'] = function(ctx, request)\n%s\nend }",
             route, body);
    asking_load(a, text);
}

static inline void asking_tell(struct asking *a, bool refused)
{
    const struct http_response *r = &a->response;
    const char *type = http_response_type(r);

    if (a->b.rc < 0 && !refused)
        snprintf(a->told, sizeof(a->told), "error %d", a->b.rc);
    else
        snprintf(a->told, sizeof(a->told), "%s%d %s|%s|%s", refused ? "refused " : "", r->status,
                 type ? type : "-", buf_text(&r->headers), buf_text(&r->body));
}

/* Runs script, on db: the bench's own, or a twin. */
static inline const char *asking_on(struct asking *a, struct script *script, struct db *db,
                                    const char *what)
{
    char method[16], path[1024], *query;
    struct http_request request = {.headers = a->headers,
                                   .header_count = a->header_count,
                                   .body = a->body,
                                   .body_len = a->body_len ? a->body_len : strlen(a->body),
                                   .remote_addr = "192.0.2.1"};
    struct script_route_call call = {
        .request = &request, .caller = &a->caller, .read_only = a->read_only};

    if (sscanf(what, "%15s %1023s", method, path) != 2)
        fail_msg("\"%s\" is no request", what);
    query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    request.method = method;
    request.path = path;
    request.query = query;
    asking_release(a);
    a->response = (struct http_response){
        .status = 299, .body = BUF_INIT(HTTP_RESPONSE_MAX_BYTES), .headers = BUF_INIT(16384)};
    a->b.err.text[0] = '\0';
    a->b.rc = script_run_route(script, db, &call, &a->response, &a->b.err);
    if (a->b.rc < 0 && !call.refused) {
        assert_true(a->b.err.text[0] != '\0');
        assert_int_equal(a->response.status, 299); /* untouched */
        assert_int_equal(a->response.body.len + a->response.headers.len, 0);
        assert_null(a->response.content_type);
        assert_int_equal(a->response.own_type[0], '\0');
    }
    asking_tell(a, call.refused);
    return a->told;
}

/* In a transaction, which is undone when the call fails or is refused. */
static inline const char *asking_for(struct asking *a, const char *what)
{
    bench_begin(&a->b);
    asking_on(a, a->b.script, a->b.db, what);
    if (db_in_transaction(a->b.db))
        bench_end(&a->b);
    return a->told;
}

/* One route with this body, and what comes of a request for it. */
static inline const char *asking_once(struct asking *a, const char *body)
{
    asking_route(a, "GET /", body);
    return asking_for(a, "GET /");
}

static inline void asking_raises(struct asking *a, const char *body, const char *wanted)
{
    asking_once(a, body);
    bench_says(&a->b, ERR_SCRIPT, wanted);
    assert_non_null(strstr(a->told, "error"));
}

#endif
