/* SPDX-License-Identifier: MIT */
#include "base/authority.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

size_t authority_host_length(const char *authority)
{
    const char *end = authority[0] == '[' ? strchr(authority, ']') : NULL;

    return end ? (size_t)(end + 1 - authority) : strcspn(authority, ":");
}

bool authority_is_loopback(const char *authority)
{
    size_t len = authority_host_length(authority);
    char host[INET6_ADDRSTRLEN + 2];
    struct in6_addr v6;
    struct in_addr v4;

    if (len == 0 || len >= sizeof(host))
        return false;
    snprintf(host, sizeof(host), "%.*s", (int)len, authority);
    if (host[0] == '[') {
        host[len - 1] = '\0';
        return inet_pton(AF_INET6, host + 1, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    if (strcasecmp(host, "localhost") == 0)
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}
