/* SPDX-License-Identifier: MIT */
/*
 * key_set - the public keys that tokens are signed with, as a JWKS (RFC 7517) lists them.
 *
 * Taken are RSA keys for RS256 signatures that have a key id; what else stands in the list is for
 * others, and is passed over: other key types, other uses and algorithms, keys that are too small. A
 * key id may come twice, and then each of its keys counts.
 *
 * Threads    a set never changes: any number of threads may use it at once, each with a share of its
 *            own or of somebody who waits for it.
 * Ownership  the text is not kept. key_set_read gives the first share; each is given back with
 *            key_set_release, and the last one frees the set.
 * Errors     ERR_INVALID: no JWKS, or none of its keys can be used; the text says why the first one
 *            can't. ERR_NOMEM.
 * Limits     KEY_SET_MAX keys, those behind them are passed over; a key id of KEY_ID_MAX bytes.
 */
#ifndef AUTH_KEY_SET_H
#define AUTH_KEY_SET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { KEY_SET_MAX = 64, KEY_ID_MAX = 255 };

struct key_set;

int key_set_read(struct key_set **out, const char *text, size_t len, struct err *err) MUST_CHECK;

struct key_set *key_set_share(struct key_set *set); /* returns set */
void key_set_release(struct key_set *set);          /* NULL is fine */

size_t key_set_count(const struct key_set *set);
size_t key_set_passed_over(const struct key_set *set); /* keys of the list that it didn't take */

/* The same keys under the same ids, in whatever order. */
bool key_set_equal(const struct key_set *a, const struct key_set *b);

bool key_set_has(const struct key_set *set, const char *key_id);

/* *out: whether one of the keys of that id has signed the message (RS256). */
int key_set_verify(const struct key_set *set, const char *key_id, const void *message, size_t len,
                   const void *signature, size_t signature_len, bool *out, struct err *err)
    MUST_CHECK;

#endif
