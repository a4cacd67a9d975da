/* SPDX-License-Identifier: MIT */
/*
 * exchange - a request made up by a test, and the answer to it.
 *
 *     struct exchange x = exchange_new("GET", "/todos");
 *     exchange_add(&x, "Origin", "https://app.example.com");
 */
#ifndef TESTS_UNIT_ROUTES_EXCHANGE_H
#define TESTS_UNIT_ROUTES_EXCHANGE_H

#include "http/message.h"

#include <stdio.h>
#include <string.h>

enum { EXCHANGE_HEADERS = 8, EXCHANGE_VALUE_MAX = 512 };

struct exchange {
    struct http_request request;
    struct http_response response;
    struct http_header headers[EXCHANGE_HEADERS];
    char value[EXCHANGE_VALUE_MAX];
};

static inline struct exchange exchange_new(const char *method, const char *path)
{
    return (struct exchange){
        .request = {.method = method, .path = path, .body = "", .remote_addr = "127.0.0.1"},
        .response = {.status = 200, .body = BUF_INIT(1 << 20), .headers = BUF_INIT(65536)},
    };
}

static inline void exchange_add(struct exchange *x, const char *name, const char *value)
{
    x->headers[x->request.header_count++] = (struct http_header){name, value};
    x->request.headers = x->headers;
}

/* The value of a header of the answer, NULL when there is none; until the next call. */
static inline const char *exchange_header(struct exchange *x, const char *name)
{
    return http_response_find_header(&x->response, name, x->value, sizeof(x->value)) ? x->value
                                                                                     : NULL;
}

static inline void exchange_release(struct exchange *x)
{
    buf_release(&x->response.body);
    buf_release(&x->response.headers);
}

#endif
