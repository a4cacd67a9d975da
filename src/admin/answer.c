/* SPDX-License-Identifier: MIT */
#include "admin/answer.h"

#include <string.h>

bool answer_health(const struct http_request *request, struct http_response *response)
{
    if (strcmp(request->path, "/healthz") != 0)
        return false;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        http_response_wrong_method(response, "GET, HEAD");
    else
        buf_puts(&response->body, "{\"status\":\"ok\"}");
    return true;
}
