/* SPDX-License-Identifier: MIT */
#include "http/message.h"

#include "base/err.h"

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

bool http_response_has_header(const struct http_response *response, const char *name)
{
    const char *line = buf_text(&response->headers);
    size_t len = strlen(name);

    while (*line) {
        const char *end = strstr(line, "\r\n");

        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return true;
        line = end ? end + 2 : "";
    }
    return false;
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
