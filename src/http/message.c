/* SPDX-License-Identifier: MIT */
#include "http/message.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *http_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

size_t http_request_header_count(const struct http_request *request, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < request->header_count; i++)
        n += strcasecmp(request->headers[i].name, name) == 0;
    return n;
}

void http_response_error(struct http_response *response, int status, const char *code,
                         const char *message)
{
    response->status = status;
    response->content_type = NULL;
    response->own_type[0] = '\0';
    buf_reset(&response->body);
    buf_puts(&response->body, "{\"error\":{\"code\":");
    buf_put_json_string(&response->body, code, strlen(code));
    buf_puts(&response->body, ",\"message\":");
    buf_put_json_string(&response->body, message, strlen(message));
    buf_puts(&response->body, "}}");
}

bool http_is_token(const char *name)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *name && name[strspn(name, allowed)] == '\0';
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7F)
            return true;
    return false;
}

int http_response_header(struct http_response *response, const char *name, const char *value)
{
    if (!http_is_token(name) || has_control(value))
        return ERR_INVALID;
    buf_puts(&response->headers, name);
    buf_puts(&response->headers, ": ");
    buf_puts(&response->headers, value);
    buf_puts(&response->headers, "\r\n");
    return buf_ok(&response->headers) ? 0 : ERR_LIMIT;
}

void http_response_put_header(struct http_response *response, const char *name, const char *value)
{
    if (http_response_header(response, name, value) < 0)
        response->headers.failed = true;
}

void http_response_wrong_method(struct http_response *response, const char *allowed)
{
    http_response_error(response, 405, "method_not_allowed", "this path takes another method");
    http_response_put_header(response, "Allow", allowed);
}

void http_response_unavailable(struct http_response *response, const char *code,
                               const char *message)
{
    http_response_error(response, 503, code, message);
    http_response_put_header(response, "Retry-After", "1");
}

/* Where the value of the header stands, and how long it is; NULL when there is none. What had no room
 * may be there in part, and is no line. */
static const char *find_value(const struct http_response *response, const char *name,
                              size_t *out_len)
{
    size_t name_len = strlen(name);

    for (const char *line = buf_text(&response->headers), *end; (end = strstr(line, "\r\n"));) {
        if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':') {
            const char *value = line + name_len + strspn(line + name_len, ": ");

            *out_len = (size_t)(end - value);
            return value;
        }
        line = end + 2;
    }
    return NULL;
}

bool http_response_find_header(const struct http_response *response, const char *name, char *out,
                               size_t size)
{
    size_t len;
    const char *value = find_value(response, name, &len);

    if (value)
        snprintf(out, size, "%.*s", (int)len, value);
    return value != NULL;
}

bool http_response_has_header(const struct http_response *response, const char *name)
{
    size_t len;

    return find_value(response, name, &len) != NULL;
}

int http_response_set_type(struct http_response *response, const char *type)
{
    size_t len = strlen(type);

    if (len == 0 || has_control(type))
        return ERR_INVALID;
    if (len >= sizeof(response->own_type))
        return ERR_LIMIT;
    memcpy(response->own_type, type, len + 1);
    return 0;
}

const char *http_response_type(const struct http_response *response)
{
    if (response->own_type[0])
        return response->own_type;
    if (!response->content_type)
        return "application/json";
    return response->content_type[0] ? response->content_type : NULL;
}

bool http_status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}
