/* SPDX-License-Identifier: MIT */
/*
 * value - is a text what an option wants? Of those whose mistakes would only show much later.
 *
 * Each function returns NULL when it is; otherwise what the text must be and isn't, in words that go
 * behind "it must be".
 *
 * Threads    any; nothing is kept.
 */
#ifndef APP_VALUE_H
#define APP_VALUE_H

#include <stdbool.h>

const char *value_client_id_fault(const char *value);
const char *value_issuer_fault(const char *value);
const char *value_audience_fault(const char *value);

/* "*", or what browsers send in the Origin header, to the letter. */
const char *value_origin_fault(const char *value);

/* It travels in a header, and whoever has it can read and do everything. */
const char *value_admin_token_fault(const char *value);

/* Of a URL that we make of it: a name or an address, without all that stands around it there. */
const char *value_host_fault(const char *value);

/* It travels in a header: fetch refuses the same characters. */
const char *value_api_key_fault(const char *value);

/* It goes into the same file as the client id, a line above it, and must not be shown. */
bool value_is_api_key(const char *value);

#endif
