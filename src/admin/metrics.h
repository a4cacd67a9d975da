/* SPDX-License-Identifier: MIT */
/*
 * metrics - /metrics of the admin listener: what all rooms have counted, as Prometheus reads it.
 *
 * Every name is written here and nowhere else; scripts/grafana-dashboard.json and
 * scripts/alert-rules.yml use them. Labels are types of events, names of actions, methods, statuses:
 * nothing of a person's, and of each a bounded number.
 *
 * Threads    the admin listener's.
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include "http/message.h"

struct admin;

void metrics_answer(struct admin *admin, struct http_response *response);

#endif
