/* SPDX-License-Identifier: MIT */
#include "routes/etag.h"

#include "crypto/digest.h"
#include "crypto/hmac.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { TAG_BYTES = 16, TAG_MAX = 256 };

/* A strong tag: the same bytes of the same type, which has no '\0' in it. False when there is no memory
 * for one. */
static bool make_tag(const struct http_response *response, char out[TAG_MAX])
{
    const char *type = http_response_type(response);
    const struct crypto_part parts[] = {
        {buf_text(&response->body), response->body.len},
        {"", 1},
        {type, type ? strlen(type) : 0},
    };
    unsigned char digest[SHA256_BYTES];
    struct err err;

    if (crypto_sha256_parts(parts, ARRAY_LEN(parts), digest, &err) < 0)
        return false;
    out[0] = '"';
    crypto_hex(digest, TAG_BYTES, out + 1);
    memcpy(out + 1 + 2 * TAG_BYTES, "\"", 2);
    return true;
}

/* "x", with its quotes. What a script gives may be anything, and longer than what is looked at. */
static bool is_tag(const char *text)
{
    size_t len = strlen(text);

    return len >= 2 && len < TAG_MAX - 1 && text[0] == '"' &&
           strchr(text + 1, '"') == text + len - 1;
}

/* Is the tag, weak or not, in the list "a", W/"b", or is that "*"? */
static bool is_listed(const char *list, const char *tag)
{
    size_t len = strlen(tag);

    for (;;) {
        list += strspn(list, " \t,");
        if (*list == '*')
            return true;
        if (strncmp(list, "W/", 2) == 0)
            list += 2;
        if (*list != '"')
            return false;
        if (strncmp(list, tag, len) == 0)
            return true;
        list = strchr(list + 1, '"');
        if (!list)
            return false;
        list++;
    }
}

/* The list may come in several lines (RFC 9110, section 5.3). */
static bool client_has(const struct http_request *request, const char *tag)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, "If-None-Match") == 0 &&
            is_listed(request->headers[i].value, tag))
            return true;
    return false;
}

/* The opaque part of a tag that the script has set: `W/"x"` is "x" when tags are compared weakly. */
static const char *opaque(const char *tag)
{
    return strncmp(tag, "W/", 2) == 0 ? tag + 2 : tag;
}

void etag_apply(const struct http_request *request, struct http_response *response)
{
    char tag[TAG_MAX];

    if (response->status != 200 ||
        (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0))
        return;
    if (!http_response_find_header(response, "ETag", tag, sizeof(tag))) {
        if (!make_tag(response, tag) || http_response_header(response, "ETag", tag) < 0)
            return;
    }
    if (!is_tag(opaque(tag)) || !client_has(request, opaque(tag)))
        return;
    response->status = 304;
    buf_reset(&response->body);
}
