/* SPDX-License-Identifier: MIT */
/*
 * rules - what a request must be, so that we and a proxy in front can't take it for two things.
 *
 * server.h says what they are. Each function returns why a request can't be served, or NULL.
 *
 * Threads    any.
 * Ownership  refusals are static.
 */
#ifndef HTTP_RULES_H
#define HTTP_RULES_H

#include "http/message.h"

#include <stdbool.h>
#include <stddef.h>

extern const struct http_refusal http_bad_syntax, http_bad_target, http_bad_version, http_busy,
    http_headers_large, http_unknown_method, http_answer_lost;

/* All that can be seen in the request itself; how long its body is in *out_body_len. */
const struct http_refusal *http_check_request(const struct http_request *request, bool is_1_1,
                                              size_t max_body_bytes, size_t *out_body_len);

/* The headers alone. HTTP/1.0 clients may lack a Host, and know no 100. */
const struct http_refusal *http_check_headers(const struct http_request *request, bool is_1_1,
                                              size_t max_body_bytes, size_t *out_body_len);

/* One of the Connection headers says close. */
bool http_asks_to_close(const struct http_request *request);

#endif
