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
    buf_reset(&response->body);
    buf_puts(&response->body, "{\"error\":{\"code\":");
    buf_put_json_string(&response->body, code, strlen(code));
    buf_puts(&response->body, ",\"message\":");
    buf_put_json_string(&response->body, message, strlen(message));
    buf_puts(&response->body, "}}");
}

static bool is_token(const char *text)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *text && text[strspn(text, allowed)] == '\0';
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
    if (!is_token(name) || has_control(value))
        return ERR_INVALID;
    buf_puts(&response->headers, name);
    buf_puts(&response->headers, ": ");
    buf_puts(&response->headers, value);
    buf_puts(&response->headers, "\r\n");
    return buf_ok(&response->headers) ? 0 : ERR_LIMIT;
}
