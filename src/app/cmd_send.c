/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/sample_file.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "http/client.h"
#include "workos/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SEND_MAX_BYTES = 64 * 1024 * 1024, SEND_TIMEOUT_MS = 30000 };

static int read_data(const char *path, struct buf *out, struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0)
        return err_errno(err, ERR_IO, "--data: cannot open '%s'", path);
    for (;;) {
        char *room = buf_reserve(out, 65536);
        ssize_t n = room ? read(fd, room, 65536) : 0;

        if (n < 0)
            rc = err_errno(err, ERR_IO, "--data: cannot read '%s'", path);
        else if (!room)
            rc = err_set(err, ERR_INVALID, "--data: '%s' is too large", path);
        if (n <= 0)
            break;
        buf_added(out, (size_t)n);
    }
    if (!is_stdin)
        close(fd);
    return rc;
}

static int write_body(const struct config *config, struct buf *out, struct err *err)
{
    struct sample_opts opts = {
        .type = config->operands[0], .event_id = config->event_id, .object_id = config->object_id};
    struct sample_file file = {.path = config->data};
    struct buf data = BUF_INIT(SEND_MAX_BYTES);
    int rc;

    if (!opts.object_id && sample_is_action(opts.type))
        opts.object_id = opts.event_id; /* an action has one id alone */
    if (!config->data)
        return sample_write(&opts, out, err);
    rc = read_data(config->data, &data, err);
    file.text = buf_text(&data);
    file.len = data.len;
    if (rc == 0)
        rc = sample_file_write(&opts, &file, out, err);
    buf_release(&data);
    return rc;
}

/* A --url without a path gets that of the endpoint, as setup's has it. */
static void put_given_url(const char *given, const char *endpoint, struct buf *out)
{
    const char *path = strstr(given, "://") + 3, *rest;

    path += strcspn(path, "/?#");
    rest = path + (*path == '/');
    if (*rest && !strchr("?#", *rest)) {
        buf_puts(out, given);
        return;
    }
    buf_put(out, given, (size_t)(path - given));
    buf_puts(out, endpoint);
    buf_puts(out, rest);
}

/* The URL is one: check_usage. */
static void put_url(const struct config *config, bool is_action, struct buf *out)
{
    const char *path = is_action ? config->action_path : config->webhook_path;

    if (config->url)
        put_given_url(config->url, path, out);
    else
        buf_printf(out, "%s://%s%s", config->tls_cert ? "https" : "http", config->listen, path);
}

static int sign(const char *secrets, const struct buf *body, char header[SIGNATURE_HEADER_MAX],
                struct err *err)
{
    struct signing_keys *keys = NULL;
    int rc = signing_keys_new(&keys, secrets, err);

    if (rc == 0)
        rc = signature_make_header(keys, clock_wall_ms(), buf_text(body), body->len, header, err);
    signing_keys_free(keys);
    return rc;
}

/* What else may be the matter, by the words of the client's error. */
static const char *hint_of(const struct config *config, const char *url, const char *problem)
{
    if (text_starts_with(problem, "cannot connect to") &&
        (strstr(problem, "certificate") || strstr(problem, "mismatch")))
        return "\n--insecure accepts any certificate";
    if (text_starts_with(problem, "cannot connect to") && strstr(problem, "TLS"))
        return config->url
                   ? "\nsomething listens there; does it serve plain HTTP? Then give a --url "
                     "that begins with http://"
                   : "\nsomething listens there; does it serve plain HTTP? Then leave out "
                     "--tls-cert (AUTHKITD_TLS_CERT)";
    if (text_starts_with(problem, "cannot connect to"))
        return "\nis the server running? Start it with authkitd serve, or say where it is with "
               "--url or --listen";
    if (text_starts_with(url, "http://") && strstr(problem, "cut off"))
        return "\ndoes it serve HTTPS? Then give --tls-cert, or a --url that begins with https://";
    if (strstr(problem, "took too long"))
        return "\nsomething listens there and doesn't answer: is it authkitd? Then its log may "
               "tell what it is at, and authkitd events whether it has the event";
    return "\nsomething listens there: is it authkitd, and is that its --listen?";
}

static int post(const struct config *config, const char *url, const char *signature,
                const struct buf *body, struct http_client_response *response, struct err *err)
{
    const struct http_header headers[] = {
        {"Content-Type", "application/json"},
        {"WorkOS-Signature", signature},
    };
    const struct http_client_request request = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .header_count = ARRAY_LEN(headers),
        .body = body->data,
        .body_len = body->len,
        .timeout_ms = SEND_TIMEOUT_MS,
        /* To --listen it is one's own server, whose certificate is made for another name. */
        .verify_tls = config->url && !config->insecure,
    };
    int rc = http_client_call(&request, response, err);

    if (rc == ERR_IO) {
        struct err cause = *err;

        err_set(err, rc, "%s%s", cause.text, hint_of(config, url, cause.text));
    }
    return rc;
}

/* The event's id, so that it can be looked for in workos_events; the type of what has none. */
static void print_outcome(const char *type, const char *url, const struct buf *body,
                          const struct http_client_response *response)
{
    struct json json = {0};
    uint32_t id = JSON_ABSENT;
    size_t len = strlen(type);
    const char *raw = type;

    if (json_read(&json, buf_text(body), body->len, NULL) == 0)
        id = json_string_member(&json, 0, "id");
    if (id)
        raw = json_raw(&json, id, &len);
    printf("sent %.*s to %s\n%d %s\n", (int)len, raw, url, response->status,
           buf_text(&response->body));
    json_release(&json);
}

static int print_list(void)
{
    struct buf text = BUF_INIT(65536);

    sample_put_list(&text);
    fputs(buf_text(&text), stdout);
    buf_release(&text);
    return EXIT_FINE;
}

/* What is wrong with the call itself, however the world is. */
static int check_usage(const struct config *config, struct err *err)
{
    int rc;

    if (config->operand_count == 0)
        return err_set(err, ERR_INVALID,
                       "send wants the type of an event, such as user.created\n"
                       "authkitd send --list tells which there are");
    rc = sample_check_type(config->operands[0], err);
    if (rc == 0 && config->event_id && config->object_id && sample_is_action(config->operands[0]))
        rc = err_set(err, ERR_INVALID, "an action has one id: give --id or --object-id");
    if (rc == 0 && config->url && http_client_check_url(config->url, err) < 0)
        rc = err_prefix(err, "--url: ");
    return rc;
}

static int send_sample(const struct config *config)
{
    bool is_action = config->operand_count && sample_is_action(config->operands[0]);
    const char *secrets = is_action ? config->action_secret : config->webhook_secret;
    struct buf body = BUF_INIT(SEND_MAX_BYTES), url = BUF_INIT(SEND_MAX_BYTES);
    struct http_client_response response = {0};
    char signature[SIGNATURE_HEADER_MAX];
    struct err err;
    int code = EXIT_FAILED;

    if (config->list)
        return print_list();
    if (check_usage(config, &err) < 0) {
        command_complain(err.text);
        return EXIT_USAGE;
    }
    if (!secrets) {
        command_complain(is_action ? "set WORKOS_ACTION_SECRET to the secret that the server has"
                                   : "set WORKOS_WEBHOOK_SECRET to the secret that the server has");
        return EXIT_FAILED;
    }
    put_url(config, is_action, &url);
    if (write_body(config, &body, &err) < 0 || sign(secrets, &body, signature, &err) < 0 ||
        post(config, buf_text(&url), signature, &body, &response, &err) < 0) {
        command_complain(err.text);
        code = err.code == ERR_CONFLICT ? EXIT_USAGE : EXIT_FAILED;
    } else {
        print_outcome(config->operands[0], buf_text(&url), &body, &response);
        code = response.status >= 200 && response.status < 300 ? EXIT_FINE : EXIT_FAILED;
    }
    http_client_response_release(&response);
    buf_release(&body);
    buf_release(&url);
    return code;
}

const struct command cmd_send = {
    .name = "send",
    .operand = "TYPE",
    .summary = "sign a sample (or --data FILE) event or action and post it to a running server",
    .about =
        "TYPE is an event type, such as user.created, or an action: user_registration,\n"
        "authentication. --list tells which types have a sample of their own.\n"
        "What --data holds is sent byte for byte when it is a whole event or action, but for the\n"
        "ids that are given; one of another type is refused.",
    .options = FOR_SEND,
    .run = send_sample,
};
