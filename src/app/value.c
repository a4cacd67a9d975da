/* SPDX-License-Identifier: MIT */
#include "app/value.h"

#include "base/text.h"

#include <string.h>

enum { ADMIN_TOKEN_MIN = 16, ADMIN_TOKEN_MAX = 512 };

#define ORIGIN_FORM "* or an origin, such as https://app.example.com or http://localhost:3000"

bool value_is_api_key(const char *value)
{
    return text_starts_with(value, "sk_");
}

const char *value_client_id_fault(const char *value)
{
    if (value_is_api_key(value))
        return "the client id (client_…), not the API key";
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr(",/?#%", *c))
            return "a client id of WorkOS's, such as client_01H…";
    return value[0] ? NULL : "not empty";
}

/* It is compared as it is, so that only what can't be meant is refused. */
const char *value_issuer_fault(const char *value)
{
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~')
            return "a URL without spaces";
    if (!text_starts_with(value, "https://") && !text_starts_with(value, "http://"))
        return "a URL, as it stands in the tokens' \"iss\", such as https://auth.example.com/";
    return NULL;
}

static bool has_control(const char *value)
{
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            return true;
    return false;
}

const char *value_audience_fault(const char *value)
{
    return has_control(value) ? "a text without control characters" : NULL;
}

const char *value_api_key_fault(const char *value)
{
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~')
            return "a key of WorkOS's dashboard (sk_…), without blanks, line breaks and control "
                   "characters";
    return NULL;
}

const char *value_host_fault(const char *value)
{
    const char *rest = value;

    if (!*value)
        return "not empty";
    if (strstr(value, "://") || strchr(value, '/'))
        return "a host name without https:// and without a path, such as api.workos.com";
    if (has_control(value) || strpbrk(value, " ?#@%\\"))
        return "a host name, such as api.workos.com";
    if (value[0] == '[')
        rest = value + 1 + strspn(value + 1, "0123456789abcdefABCDEF:.");
    if (rest == value + 1 || (rest > value ? strcmp(rest, "]") != 0 : strchr(value, ':') != NULL))
        return "a host name without a port, which WORKOS_API_PORT is for; [::1] for IPv6";
    return NULL;
}

/* The part of an origin behind its host: nothing, or a port that isn't the scheme's own. Browsers leave
 * that one out, so that an origin with it would never be met. */
static const char *port_fault(const char *origin, const char *port)
{
    uint64_t number;

    if (!*port)
        return NULL;
    if (port[0] != ':' || port[1] == '0' ||
        !text_to_u64(port + 1, strlen(port + 1), 65535, &number))
        return ORIGIN_FORM;
    if ((number == 443 && text_starts_with(origin, "https:")) ||
        (number == 80 && text_starts_with(origin, "http:")))
        return "an origin as browsers send it: without the port that is the usual one";
    return NULL;
}

/* Of a name or an address in brackets; 0 when there is none. */
static size_t host_len(const char *host)
{
    size_t len;

    if (host[0] != '[')
        return strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._");
    len = strspn(host + 1, "0123456789abcdef:.");
    return len > 0 && host[1 + len] == ']' ? len + 2 : 0;
}

const char *value_origin_fault(const char *value)
{
    size_t scheme = strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    const char *host;

    if (strcmp(value, "*") == 0)
        return NULL;
    if (scheme == 0 || !text_starts_with(value + scheme, "://"))
        return ORIGIN_FORM;
    host = value + scheme + strlen("://");
    if (host[strcspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")])
        return "an origin in lower case, as browsers send it";
    if (host_len(host) == 0)
        return ORIGIN_FORM;
    if (text_ends_with(host, "/"))
        return "an origin without a path: leave out the slash at its end";
    if (strchr(host, '/'))
        return "an origin without a path";
    return port_fault(value, host + host_len(host));
}

const char *value_admin_token_fault(const char *value)
{
    size_t len = strlen(value);

    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~')
            return "of letters, digits and other plain characters, without blanks";
    if (len < ADMIN_TOKEN_MIN || len > ADMIN_TOKEN_MAX)
        return "16 to 512 characters that nobody can guess, such as openssl rand -hex 32 makes "
               "them";
    return NULL;
}
