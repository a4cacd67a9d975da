/* SPDX-License-Identifier: MIT */
#include "app/tokens.h"

#include "fetch/fetch.h"

#include <inttypes.h>
#include <string.h>

#define WORKOS "https://api.workos.com"

enum { URL_MAX = 4096 };

bool tokens_are_on(const struct config *config)
{
    return config->client_id || config->jwks_url;
}

/* As a browser would write it: the usual port is left out. */
static void put_origin(struct buf *out, const struct config *config)
{
    buf_printf(out, "%s://%s", config->api_https ? "https" : "http", config->api_hostname);
    if (config->api_port != (config->api_https ? 443 : 80))
        buf_printf(out, ":%" PRId64, config->api_port);
}

static void put_issuers(struct buf *out, const char *origin, const struct config *config)
{
    buf_printf(out, "%s%s,%s/", out->len ? "," : "", origin, origin);
    if (config->client_id)
        buf_printf(out, ",%s/user_management/%s", origin, config->client_id);
}

int tokens_fill(struct tokens *out, const struct config *config, struct err *err)
{
    struct buf origin = BUF_INIT(URL_MAX);
    int rc = 0;

    *out = (struct tokens){.jwks_url = BUF_INIT(URL_MAX), .issuers = BUF_INIT(8 * URL_MAX)};
    put_origin(&origin, config);
    put_issuers(&out->issuers, buf_text(&origin), config);
    if (strcmp(buf_text(&origin), WORKOS) != 0)
        put_issuers(&out->issuers, WORKOS, config);
    buf_printf(&out->jwks_url, "%s/sso/jwks/", buf_text(&origin));
    if (config->client_id)
        fetch_put_escaped(&out->jwks_url, config->client_id);
    if (!buf_ok(&origin) || !buf_ok(&out->issuers) || !buf_ok(&out->jwks_url)) {
        tokens_release(out);
        rc = err_set(err, ERR_INVALID, "WORKOS_API_HOSTNAME or WORKOS_CLIENT_ID is far too long");
    }
    buf_release(&origin);
    if (rc < 0)
        return rc;
    out->opts = (struct auth_opts){
        .jwks_url = config->jwks_url ? config->jwks_url : buf_text(&out->jwks_url),
        .client_id = config->client_id,
        .issuers = config->issuers ? config->issuers : buf_text(&out->issuers),
        .audiences = config->audiences,
        .user_agent = "authkitd/" AUTHKITD_VERSION " (tokens)",
    };
    return 0;
}

void tokens_release(struct tokens *tokens)
{
    buf_release(&tokens->jwks_url);
    buf_release(&tokens->issuers);
}
