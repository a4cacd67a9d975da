/* SPDX-License-Identifier: MIT */
#include "app/admin.h"

#include "app/routes.h"
#include "app/server.h"
#include "base/json.h"
#include "workos/put_back.h"

#include <inttypes.h>
#include <stdlib.h>
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

/* ---------------------------------------------------------------------------------- retry */

static int put_ids_back(struct server *server, const char **ids, size_t count,
                        struct http_response *response, struct err *err)
{
    const struct put_back_request request = {.ids = ids, .count = count};
    struct put_back_outcome outcome;
    int rc = put_back(server_workos(server), &request, &outcome, err);

    if (rc == 0) {
        size_t len = outcome.problems.len; /* without its last line end */

        buf_printf(&response->body,
                   "{\"put_back\":%" PRId64 ",\"refused\":%zu,\"problems\":", outcome.put_back,
                   outcome.refused);
        buf_put_json_string(&response->body, buf_text(&outcome.problems), len ? len - 1 : 0);
        buf_putc(&response->body, '}');
    }
    buf_release(&outcome.problems);
    return rc;
}

/* A list of strings, one at least. */
static bool is_id_list(const struct json *json, uint32_t list)
{
    const struct json_node *nodes = json->nodes;

    if (!list || nodes[list].type != JSON_ARRAY || nodes[list].count == 0)
        return false;
    for (uint32_t i = list + 1; i < nodes[list].next; i = nodes[i].next)
        if (nodes[i].type != JSON_STRING)
            return false;
    return true;
}

/* The list's strings, decoded one after the other in text (as long as the body). */
static size_t read_ids(const struct json *json, uint32_t list, const char **ids, char *text)
{
    size_t count = 0;

    for (uint32_t i = list + 1; i < json->nodes[list].next; i = json->nodes[i].next) {
        ids[count++] = text;
        text += json_decode(json, i, text);
        *text++ = '\0';
    }
    return count;
}

static int retry_as_asked(struct server *server, const struct json *json,
                          const struct http_request *request, struct http_response *response,
                          struct err *err)
{
    uint32_t list = json_member(json, 0, "ids"), all = json_member(json, 0, "all");
    bool has_ids = is_id_list(json, list);
    bool wants_all = all && json->nodes[all].type == JSON_TRUE;
    const char **ids;
    char *text;
    int rc;

    if (has_ids == wants_all)
        return err_set(err, ERR_INVALID, "the body must be {\"ids\":[…]} or {\"all\":true}");
    if (wants_all)
        return put_ids_back(server, NULL, 0, response, err);
    ids = calloc(json->nodes[list].count, sizeof(*ids));
    text = malloc(request->body_len + 1);
    if (!ids || !text)
        rc = err_set(err, ERR_NOMEM, "no memory for the ids");
    else
        rc = put_ids_back(server, ids, read_ids(json, list, ids, text), response, err);
    free(ids);
    free(text);
    return rc;
}

static void retry(struct server *server, const struct http_request *request,
                  struct http_response *response)
{
    struct json json = {0};
    struct err err;
    int rc = json_read(&json, request->body, request->body_len, &err);

    if (rc == 0)
        rc = retry_as_asked(server, &json, request, response, &err);
    json_release(&json);
    if (rc < 0)
        http_response_error(response, rc == ERR_INVALID ? 400 : 503, "not_put_back", err.text);
}

/* ---------------------------------------------------------------------------------- all */

static bool is_path(const struct http_request *request, const char *path)
{
    return strcmp(request->path, path) == 0;
}

void admin_handle(void *arg, const struct http_request *request, struct http_response *response)
{
    struct admin *admin = arg;
    const char *header = http_request_header(request, ADMIN_HEADER);

    if (routes_health(request, response))
        return;
    if (!is_path(request, "/reload") && !is_path(request, "/retry"))
        http_response_error(response, 404, "not_found", "there is nothing at this path");
    else if (strcmp(request->method, "POST") != 0)
        routes_refuse_method(response, "POST");
    else if (!header || strcmp(header, "1") != 0)
        http_response_error(response, 403, "header_missing",
                            "a POST needs the header " ADMIN_HEADER ": 1");
    else if (is_path(request, "/reload"))
        reload(admin->server, response);
    else
        retry(admin->server, request, response);
}
