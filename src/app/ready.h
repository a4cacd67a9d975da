/* SPDX-License-Identifier: MIT */
/*
 * ready - is everything as it should be? /readyz and /metrics of the admin listener.
 *
 * Threads    the admin listener's.
 */
#ifndef APP_READY_H
#define APP_READY_H

#include "http/message.h"
#include "workos/workos.h"

#include <stdint.h>

/* 200, or 503 and what is wrong, in words. poll_s: the interval, 0 when nothing is polled. */
void ready_answer(struct workos *workos, int64_t poll_s, struct http_response *response);

/* Prometheus's text format. */
void ready_metrics(struct workos *workos, struct http_response *response);

#endif
