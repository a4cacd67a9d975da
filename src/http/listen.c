/* SPDX-License-Identifier: MIT */
#include "http/listen.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* The host of address without its brackets, and its port. */
static bool split(const char *address, char host[INET6_ADDRSTRLEN], bool *out_v6,
                  uint64_t *out_port)
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    size_t len;

    if (!colon || !text_to_u64(colon + 1, strlen(colon + 1), 65535, out_port))
        return false;
    len = (size_t)(colon - address);
    *out_v6 = len >= 2 && address[0] == '[' && colon[-1] == ']';
    if (*out_v6) {
        start++;
        len -= 2;
    }
    if (len == 0 || len >= INET6_ADDRSTRLEN)
        return false;
    memcpy(host, start, len);
    host[len] = '\0';
    return true;
}

static bool parse(const char *address, union socket_address *out)
{
    char host[INET6_ADDRSTRLEN];
    uint64_t port;
    bool v6;

    memset(out, 0, sizeof(*out));
    if (!split(address, host, &v6, &port))
        return false;
    if (v6) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1;
    }
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host,
                     &out->v4.sin_addr) == 1;
}

bool http_can_listen(const char *address)
{
    union socket_address parsed;

    return parse(address, &parsed);
}

static void format(const union socket_address *address, char out[HTTP_ADDRESS_MAX])
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        snprintf(out, HTTP_ADDRESS_MAX, "[%s]:%d", host, ntohs(address->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
        snprintf(out, HTTP_ADDRESS_MAX, "%s:%d", host, ntohs(address->v4.sin_port));
    }
}

int http_listen(const char *address, int *out_fd, char out_address[HTTP_ADDRESS_MAX],
                struct err *err)
{
    union socket_address bound;
    socklen_t len = sizeof(bound);
    const int on = 1;
    const int off = 0;
    int fd = -1;
    int rc;

    if (!parse(address, &bound)) {
        rc = err_set(err, ERR_IO,
                     "cannot listen on '%s': expected address:port, such as 127.0.0.1:8080 or "
                     "[::1]:8080",
                     address);
        goto out;
    }
    fd = socket(bound.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (bound.any.sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
        bind(fd, &bound.any,
             bound.any.sa_family == AF_INET6 ? sizeof(bound.v6) : sizeof(bound.v4)) < 0 ||
        listen(fd, BACKLOG) < 0 || getsockname(fd, &bound.any, &len) < 0) {
        rc = err_errno(err, ERR_IO, "cannot listen on %s", address);
        goto out;
    }
    format(&bound, out_address);
    *out_fd = fd;
    fd = -1;
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    return rc;
}
