/* SPDX-License-Identifier: MIT */
#include "app/admin_client.h"

#include "admin/admin.h"
#include "base/authority.h"
#include "base/json.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "store/lock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TIMEOUT_MS = 600000, /* a migration may copy a large table */
    GET_TIMEOUT_MS = 10000,
    PATIENCE_MS = 5000, /* then somebody at a terminal wants to know what goes on */
    BEARER_MAX = 1024,  /* a longer token isn't taken by any server */
};

/* A server that listens everywhere may do so in a container, and be asked at an address of the host's; it has
 * a token, which another one wouldn't take. */
static bool listens_everywhere(const char *admin)
{
    return text_starts_with(admin, "0.0.0.0:") || text_starts_with(admin, "[::]:");
}

/* Whether the address that was told may be that at which a server says that it listens. */
static bool is_same_listener(const char *told, const char *admin)
{
    const char *told_port = strrchr(told, ':'), *port = strrchr(admin, ':');

    if (listens_everywhere(admin) || strcmp(told, admin) == 0)
        return true;
    return text_starts_with(told, "localhost:") && port && strcmp(told_port, port) == 0 &&
           authority_is_loopback(admin);
}

static int no_listener(const struct lock_holder *holder, const char *instead, struct err *err)
{
    return err_set(err, ERR_ABSENT,
                   "process %ld, which has the database, has no admin listener: %s; if it is "
                   "another authkitd command, wait for its end",
                   holder->pid, instead);
}

/*
 * An address that was told may be another server's, or, while ours doesn't run, anybody's who listens there:
 * and they would get the admin token. Where the database is, its lock knows better. But whoever says
 * --admin-listen and nothing of a database doesn't mean one that happens to be here.
 */
static int check_told(const struct config *config, const char *instead, struct err *err)
{
    const char *told = config->admin_listen, *origin = config_origin(config, &config->admin_listen);
    bool says_no_more = origin[0] == '-' && !config_is_given(config, &config->db);
    struct lock_holder holder;
    int rc;

    if (says_no_more || access(config->db, F_OK) < 0)
        return 0;
    rc = lock_peek(config->db, &holder, err);
    if (rc == ERR_ABSENT)
        return err_set(err, ERR_ABSENT,
                       "no running server found: none has %s, so whoever listens at %s (%s) is "
                       "another one; name its own database with --db",
                       config->db, told, origin);
    if (rc < 0) /* not ours to read: the server may be another user's */
        return 0;
    if (holder.admin[0] == '\0')
        return no_listener(&holder, instead, err);
    if (is_same_listener(told, holder.admin))
        return 0;
    return err_set(
        err, ERR_INVALID,
        "%s is %s, but the server that runs with %s listens at %s: leave the one out, or "
        "name the other's database with --db",
        origin, told, config->db, holder.admin);
}

/* Where the running server's admin listener is: as told, or as its lock file says. */
static int find_admin(const struct config *config, const char *instead, char *out, size_t size,
                      struct err *err)
{
    struct lock_holder holder;
    const char *port = strrchr(config->admin_listen, ':');

    if (strcmp(config->admin_listen, "off") == 0)
        return err_set(err, ERR_ABSENT, "the admin listener is off: %s", instead);
    if (config->admin_listen_given && (!port || strcmp(port, ":0") != 0)) {
        snprintf(out, size, "%s", config->admin_listen);
        return check_told(config, instead, err);
    }
    if (lock_peek(config->db, &holder, err) < 0)
        return err_prefix(err, "no running server found: ");
    if (holder.admin[0] == '\0')
        return no_listener(&holder, instead, err);
    snprintf(out, size, "%s", holder.admin);
    return 0;
}

/*
 * Every refusal of authkitd's has a code, and every other answer the member that its caller asks for. But 404
 * is its public listener's: the admin listener has what we ask for.
 */
static bool is_authkitds(const struct http_client_response *response, const char *proof)
{
    struct json json = {0};
    bool is_it = false;

    if (response->status != 404 &&
        json_read(&json, buf_text(&response->body), response->body.len, NULL) == 0)
        is_it = response->status < 400 ? json_member(&json, 0, proof) != JSON_ABSENT
                                       : json_string_member(&json, json_member(&json, 0, "error"),
                                                            "code") != JSON_ABSENT;
    json_release(&json);
    return is_it;
}

static int check_answer(const char *url, const char *proof, struct http_client_response *response,
                        struct err *err)
{
    int status = response->status;

    if (is_authkitds(response, proof))
        return 0;
    http_client_response_release(response);
    return err_set(
        err, ERR_INVALID,
        "what answers at %s isn't authkitd's admin listener (it answered %d): see --admin-listen",
        url, status);
}

static void say_waiting(void *arg, const char *url)
{
    const struct admin_call *call = arg;

    fprintf(stderr, "authkitd: %s hasn't answered yet%s%s%s\n", url, call->slow ? " (" : "",
            call->slow ? call->slow : "", call->slow ? ")" : "");
}

static int ask(const struct config *config, const struct admin_call *call,
               struct http_client_request *request, struct http_client_response *out,
               struct err *err)
{
    char address[LOCK_ADMIN_MAX], url[LOCK_ADMIN_MAX + 64], bearer[BEARER_MAX];
    const struct http_header headers[] = {
        {ADMIN_HEADER, "1"},
        {"Content-Type", "application/json"},
        {"Authorization", bearer},
    };
    int rc = find_admin(config, call->instead, address, sizeof(address), err);

    if (rc < 0)
        return rc;
    snprintf(url, sizeof(url), "http://%s%s", address, call->path);
    snprintf(bearer, sizeof(bearer), "Bearer %s", config->admin_token ? config->admin_token : "");
    request->url = url;
    request->headers = headers;
    request->header_count = ARRAY_LEN(headers) - (config->admin_token ? 0 : 1);
    request->patience_ms = PATIENCE_MS;
    request->on_waiting = say_waiting;
    request->arg = (void *)call;
    rc = http_client_call(request, out, err);
    crypto_wipe(bearer, sizeof(bearer));
    return rc < 0 ? err_prefix(err, "no answer from the server: ")
                  : check_answer(url, call->proof, out, err);
}

int admin_client_post(const struct config *config, const struct admin_call *call,
                      struct http_client_response *out, struct err *err)
{
    struct http_client_request request = {
        .method = "POST",
        .body = call->body ? call->body->data : NULL,
        .body_len = call->body ? call->body->len : 0,
        .timeout_ms = TIMEOUT_MS,
    };

    return ask(config, call, &request, out, err);
}

int admin_client_get(const struct config *config, const struct admin_call *call,
                     struct http_client_response *out, struct err *err)
{
    struct http_client_request request = {.method = "GET", .timeout_ms = GET_TIMEOUT_MS};

    return ask(config, call, &request, out, err);
}

void admin_client_print(FILE *stream, const struct http_client_response *response,
                        const char *inside, const char *member)
{
    struct json json = {0};
    uint32_t object = 0, value;
    char *text = NULL;

    if (json_read(&json, buf_text(&response->body), response->body.len, NULL) == 0) {
        if (inside)
            object = json_member(&json, 0, inside);
        value = json_string_member(&json, object, member);
        if (value && (text = malloc(json.nodes[value].len + 1)) != NULL) {
            text[json_decode(&json, value, text)] = '\0';
            text_make_plain_lines(text);
            if (*text)
                fprintf(stream, "%s\n", text);
        }
    }
    free(text);
    json_release(&json);
}

int admin_client_error(const struct http_client_response *response, struct err *err)
{
    struct json json = {0};
    char text[ERR_TEXT_MAX] = "";
    uint32_t message = JSON_ABSENT;

    if (json_read(&json, buf_text(&response->body), response->body.len, NULL) == 0)
        message = json_string_member(&json, json_member(&json, 0, "error"), "message");
    if (message && json.nodes[message].len < sizeof(text))
        text[json_decode(&json, message, text)] = '\0';
    json_release(&json);
    text_make_plain_lines(text);
    if (!text[0])
        return err_set(err, ERR_INVALID, "the server answered %d", response->status);
    return err_set(err, ERR_INVALID, "%s", text);
}

bool admin_client_is_true(const struct http_client_response *response, const char *member)
{
    struct json json = {0};
    bool is_true = false;
    uint32_t value;

    if (json_read(&json, buf_text(&response->body), response->body.len, NULL) == 0) {
        value = json_member(&json, 0, member);
        is_true = value && json.nodes[value].type == JSON_TRUE;
    }
    json_release(&json);
    return is_true;
}

int64_t admin_client_number(const struct http_client_response *response, const char *member)
{
    struct json json = {0};
    int64_t number = 0;
    uint32_t value;

    if (json_read(&json, buf_text(&response->body), response->body.len, NULL) == 0) {
        value = json_member(&json, 0, member);
        if (!value || json.nodes[value].type != JSON_NUMBER || !json_to_int(&json, value, &number))
            number = 0;
    }
    json_release(&json);
    return number;
}
