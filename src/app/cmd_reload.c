/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/admin.h"
#include "base/json.h"
#include "http/client.h"
#include "store/lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RELOAD_TIMEOUT_MS = 600000 /* a migration may copy a large table */ };

/* Where the running server's admin listener is: as told, or as its lock file says. */
static int find_admin(const struct config *config, char *out, size_t size, struct err *err)
{
    struct lock_holder holder;
    const char *port = strrchr(config->admin_listen, ':');

    if (strcmp(config->admin_listen, "off") == 0)
        return err_set(err, ERR_INVALID, "the admin listener is off: send the server a SIGHUP");
    if (config->admin_listen_given && (!port || strcmp(port, ":0") != 0)) {
        snprintf(out, size, "%s", config->admin_listen);
        return 0;
    }
    if (lock_peek(config->db, &holder, err) < 0)
        return err_prefix(err, "no running server found: ");
    if (holder.admin[0] == '\0')
        return err_set(err, ERR_ABSENT,
                       "the server (pid %ld) has no admin listener: kill -HUP %ld loads its script "
                       "again",
                       holder.pid, holder.pid);
    snprintf(out, size, "%s", holder.admin);
    return 0;
}

/* The string member of an answer, printed; of an error's object when inside is given. */
static void print_member(FILE *stream, const struct buf *body, const char *inside,
                         const char *member)
{
    struct json json = {0};
    uint32_t object = 0, value;
    char *text = NULL;

    if (json_read(&json, buf_text(body), body->len, NULL) == 0) {
        if (inside)
            object = json_member(&json, 0, inside);
        value = json_string_member(&json, object, member);
        if (value && (text = malloc(json.nodes[value].len + 1)) != NULL) {
            text[json_decode(&json, value, text)] = '\0';
            if (*text)
                fprintf(stream, "%s\n", text);
        }
    }
    free(text);
    json_release(&json);
}

static int reload(const struct config *config)
{
    char address[LOCK_ADMIN_MAX], url[LOCK_ADMIN_MAX + 32];
    const struct http_header headers[] = {{ADMIN_HEADER, "1"}};
    struct http_client_request request = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .header_count = ARRAY_LEN(headers),
        .timeout_ms = RELOAD_TIMEOUT_MS,
    };
    struct http_client_response response = {0};
    struct err err;
    int code = EXIT_FINE;

    if (find_admin(config, address, sizeof(address), &err) < 0) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    snprintf(url, sizeof(url), "http://%s/reload", address);
    if (http_client_call(&request, &response, &err) < 0) {
        err_prefix(&err, "no answer from the server: ");
        command_complain(err.text);
        return EXIT_FAILED;
    }
    if (response.status == 200) {
        printf("script loaded\n");
        print_member(stdout, &response.body, NULL, "changes");
    } else {
        fprintf(stderr, "authkitd: the script was %s:\n",
                response.status == 422 ? "refused, the old one goes on" : "not loaded");
        print_member(stderr, &response.body, "error", "message");
        code = EXIT_FAILED;
    }
    http_client_response_release(&response);
    return code;
}

const struct command cmd_reload = {
    .name = "reload",
    .summary = "have the running server load its script again; wait for the outcome",
    .about =
        "The server is found by --admin-listen if that is given, else by the lock beside --db.",
    .options = FOR_RELOAD,
    .run = reload,
};
