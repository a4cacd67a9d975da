/* SPDX-License-Identifier: MIT */
#include "admin/answer.h"

#include <string.h>

void answer_wrong_method(struct http_response *response, const char *allowed)
{
    http_response_error(response, 405, "method_not_allowed", "this path takes another method");
    if (http_response_header(response, "Allow", allowed) < 0)
        response->headers.failed = true; /* only for lack of memory: the server answers 500 */
}

bool answer_health(const struct http_request *request, struct http_response *response)
{
    if (strcmp(request->path, "/healthz") != 0)
        return false;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        answer_wrong_method(response, "GET, HEAD");
    else
        buf_puts(&response->body, "{\"status\":\"ok\"}");
    return true;
}
