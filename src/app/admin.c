/* SPDX-License-Identifier: MIT */
#include "app/admin.h"

#include "app/routes.h"
#include "app/server.h"

#include <string.h>

enum { REPORT_MAX = 65536 };

static void reload(struct server *server, struct http_response *response)
{
    struct buf report = BUF_INIT(REPORT_MAX);
    struct err err;
    int rc = server_reload(server, &report, &err);

    if (rc == ERR_CLOSED) {
        http_response_error(response, 503, "stopping", err.text);
    } else if (rc < 0) {
        http_response_error(response, 422, "script_refused", err.text);
    } else {
        buf_puts(&response->body, "{\"reloaded\":true,\"changes\":");
        buf_put_json_string(&response->body, buf_text(&report), report.len);
        buf_putc(&response->body, '}');
    }
    buf_release(&report);
}

void admin_handle(void *arg, const struct http_request *request, struct http_response *response)
{
    struct admin *admin = arg;
    const char *header = http_request_header(request, ADMIN_HEADER);

    if (routes_health(request, response))
        return;
    if (strcmp(request->path, "/reload") != 0)
        http_response_error(response, 404, "not_found", "there is nothing at this path");
    else if (strcmp(request->method, "POST") != 0)
        routes_refuse_method(response, "POST");
    else if (!header || strcmp(header, "1") != 0)
        http_response_error(response, 403, "header_missing",
                            "a POST needs the header " ADMIN_HEADER ": 1");
    else
        reload(admin->server, response);
}
