/* SPDX-License-Identifier: MIT */
/*
 * etag - an answer that the client has already is a 304 (RFC 9110, sections 8.8.3 and 13.1.2).
 *
 * The tag is made of the body and its type, so it is the same after a restart and for every server
 * with the same data. It spares the network, not the work.
 *
 * Threads    any.
 */
#ifndef ROUTES_ETAG_H
#define ROUTES_ETAG_H

#include "http/message.h"

/* For an answer of status 200 to GET or HEAD; others are left as they are, and those that have a tag
 * of the script's own are only compared. */
void etag_apply(const struct http_request *request, struct http_response *response);

#endif
