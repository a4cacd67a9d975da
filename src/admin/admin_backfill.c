/* SPDX-License-Identifier: MIT */
#include "admin/admin_backfill.h"

#include "base/json.h"

#include <inttypes.h>

enum { PAGES_PER_S_MAX = 1000, GIVE_UP_S_MAX = 86400 };

static const char *const prunes[] = {
    [BACKFILL_KEEP] = "keep",
    [BACKFILL_REPORT] = "report",
    [BACKFILL_ASK] = "ask",
    [BACKFILL_REMOVE] = "remove",
};

void admin_backfill_write(struct buf *out, const struct backfill_request *request)
{
    buf_printf(out,
               "{\"functions\":%s,\"prune\":\"%s\",\"prune_most\":%s,\"pages_per_s\":%" PRId64
               ",\"give_up_s\":%" PRId64 "}",
               request->with_functions ? "true" : "false", prunes[request->prune],
               request->prune_most ? "true" : "false", request->pages_per_s, request->give_up_s);
}

static int read_prune(const struct json *json, struct backfill_request *out, struct err *err)
{
    uint32_t value = json_member(json, 0, "prune");

    if (!value)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(prunes); i++) {
        if (json->nodes[value].type == JSON_STRING && json_equals(json, value, prunes[i])) {
            out->prune = (enum backfill_prune)i;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "prune must be keep, report, ask or remove");
}

static int read_number(const struct json *json, const char *name, int64_t max, int64_t *out,
                       struct err *err)
{
    uint32_t value = json_member(json, 0, name);
    int64_t number;

    if (!value)
        return 0;
    if (json->nodes[value].type != JSON_NUMBER || !json_to_int(json, value, &number) ||
        number < 1 || number > max)
        return err_set(err, ERR_INVALID, "%s must be a number from 1 to %" PRId64, name, max);
    *out = number;
    return 0;
}

static int read_request(const struct json *json, struct backfill_request *out, struct err *err)
{
    uint32_t functions = json_member(json, 0, "functions");
    uint32_t most = json_member(json, 0, "prune_most");
    int rc;

    *out = (struct backfill_request){.with_functions = true};
    if (functions && json->nodes[functions].type == JSON_FALSE)
        out->with_functions = false;
    out->prune_most = most && json->nodes[most].type == JSON_TRUE;
    rc = read_prune(json, out, err);
    if (rc == 0)
        rc = read_number(json, "pages_per_s", PAGES_PER_S_MAX, &out->pages_per_s, err);
    return rc < 0 ? rc : read_number(json, "give_up_s", GIVE_UP_S_MAX, &out->give_up_s, err);
}

static void answer(struct backfill *backfill, const struct backfill_request *request,
                   struct http_response *response)
{
    struct err err;
    int rc = backfill_start(backfill, request, &err);

    if (rc == ERR_ABSENT) {
        http_response_error(response, 409, "no_api_key",
                            "the server has no WORKOS_API_KEY in its environment: set it to a key "
                            "of WorkOS's dashboard (sk_…), and start the server again");
    } else if (rc < 0) {
        http_response_error(response, rc == ERR_BUSY ? 409 : 503,
                            rc == ERR_BUSY ? "running" : "not_started", err.text);
    } else {
        response->status = 202;
        backfill_put_progress(backfill, &response->body);
    }
}

void admin_backfill_start(struct backfill *backfill, const struct http_request *request,
                          struct http_response *response)
{
    struct backfill_request wanted;
    struct json json = {0};
    struct err err;
    int rc = json_read(&json, request->body, request->body_len, &err);

    if (rc == 0)
        rc = read_request(&json, &wanted, &err);
    json_release(&json);
    if (rc < 0)
        http_response_error(response, 400, "not_started", err.text);
    else
        answer(backfill, &wanted, response);
}
