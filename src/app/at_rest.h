/* SPDX-License-Identifier: MIT */
/*
 * at_rest - the service for a command that works on a database which no server has at the moment.
 *
 *     lock -> database -> service -> script        as a server starts, with no listener
 *
 * Threads    main.
 * Ownership  config must outlive it.
 * Errors     ERR_BUSY: a server has it after all. Else those of the rooms; the text says what to do.
 */
#ifndef APP_AT_REST_H
#define APP_AT_REST_H

#include "app/config.h"
#include "base/err.h"
#include "workos/workos.h"

struct at_rest;

int at_rest_open(struct at_rest **out, const struct config *config, struct err *err) MUST_CHECK;
void at_rest_close(struct at_rest *at_rest); /* NULL is fine */

struct workos *at_rest_workos(struct at_rest *at_rest);

#endif
