/* SPDX-License-Identifier: MIT */
/*
 * answer - what the world's listener and the admin listener answer alike.
 *
 * Threads    any.
 */
#ifndef ADMIN_ANSWER_H
#define ADMIN_ANSWER_H

#include "http/message.h"

/* GET and HEAD of /healthz; false when the request isn't for it. */
bool answer_health(const struct http_request *request, struct http_response *response);

#endif
