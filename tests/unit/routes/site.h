/* SPDX-License-Identifier: MIT */
/*
 * site - a service (unit/workos/service.h) with routes in front of it, in the current directory.
 *
 *     site_start(&site, SCRIPT);
 *     site_ask(&site, "GET", "/count", "");        the answer's body; its status in site.status
 */
#ifndef TESTS_UNIT_ROUTES_SITE_H
#define TESTS_UNIT_ROUTES_SITE_H

#include "unit/workos/service.h"

#include "routes/routes.h"
#include "unit/routes/exchange.h"

struct site {
    struct service service;
    struct routes *routes;
    struct exchange exchange; /* the last one */
};

static inline void site_installing(void *arg)
{
    struct site *site = arg;

    routes_installing(site->routes);
}

static inline void site_installed(void *arg, const struct script *script)
{
    struct site *site = arg;

    routes_installed(site->routes, script);
}

static inline void site_start(struct site *site, const char *script)
{
    const struct workos_opts opts = {
        .installing = site_installing, .installed = site_installed, .arg = site};
    struct routes_opts routes_opts = {.db_path = "test.db"};
    struct err err;

    *site = (struct site){0};
    start_service_with(&site->service, opts);
    routes_opts.workos = site->service.workos;
    if (routes_new(&site->routes, &routes_opts, &err) < 0)
        fail_msg("%s", err.text);
    install_script(&site->service, script, 1000);
}

static inline void site_stop(struct site *site)
{
    exchange_release(&site->exchange);
    workos_close(site->service.workos);
    routes_free(site->routes);
    db_close(site->service.db);
    signing_keys_free(site->service.keys);
}

/* Any thread, with an exchange of its own. */
static inline void site_serve(struct site *site, struct exchange *x)
{
    routes_answer(site->routes, &x->request, &x->response);
}

static inline const char *site_ask(struct site *site, const char *method, const char *path,
                                   const char *body)
{
    exchange_release(&site->exchange);
    site->exchange = exchange_new(method, path);
    site->exchange.request.body = body;
    site->exchange.request.body_len = strlen(body);
    site_serve(site, &site->exchange);
    return buf_text(&site->exchange.response.body);
}

static inline int site_status(const struct site *site)
{
    return site->exchange.response.status;
}

#endif
