/* SPDX-License-Identifier: MIT */
/*
 * tls - the server's certificate, and the settings that every handshake gets.
 *
 * The certificate can be replaced while handshakes go on: each handshake asks for the current one.
 * TLS 1.2 and 1.3 only, HTTP/1.1 by ALPN, no renegotiation.
 *
 * Threads    tls_server_new, _free: main. tls_server_reload: any, one at a time. Handshakes and
 *            tls_server_check_dates, _get_dates: any thread.
 * Ownership  the context is the tls_server's.
 * Errors     ERR_INVALID names the file and what is wrong with it: unreadable, no certificate, the
 *            key doesn't fit, too weak for OpenSSL to serve it. A reload that fails leaves the old
 *            certificate in use.
 */
#ifndef CRYPTO_TLS_H
#define CRYPTO_TLS_H

#include "base/err.h"

#include <stdint.h>

struct tls_server;

int tls_server_new(struct tls_server **out, const char *cert_path, const char *key_path,
                   struct err *err) MUST_CHECK;
int tls_server_reload(struct tls_server *tls, struct err *err) MUST_CHECK;

/* ERR_INVALID: the certificate has expired, or isn't valid yet. It is in use all the same. */
int tls_server_check_dates(struct tls_server *tls, struct err *err) MUST_CHECK;

/* From when and to when the certificate that is in use is valid: wall time. */
void tls_server_get_dates(struct tls_server *tls, int64_t *out_from_ms, int64_t *out_to_ms);

void tls_server_free(struct tls_server *tls);

/* The SSL_CTX, as the void * that http/ hands to civetweb; borrowed. */
void *tls_server_ctx(struct tls_server *tls);

#endif
