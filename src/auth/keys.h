/* SPDX-License-Identifier: MIT */
/*
 * keys - the key set that is valid now, and the thread that keeps it so.
 *
 * The thread reads the set at the start, again every refresh_ms (so that a key that was withdrawn
 * goes), and when a token names a key id that the set doesn't have, though never twice within
 * pause_ms. A reading that fails keeps the keys that are there and is tried again after pause_ms, or
 * when the server wants it.
 *
 *    keys_for("known id")     -> the set, at once: nobody who has a known key waits for a reading
 *    keys_for("unknown id")   -> asks for a reading, waits for it, gets what is there then
 *
 * Who asks within pause_ms of the last reading gets what is there at once; the reading comes when the
 * pause is over.
 *
 * Threads    keys_start, _stop: main. keys_for, keys_get_status, keys_refuse: any.
 * Ownership  keys_for gives a share of the set: key_set_release.
 * Errors     failed readings are logged here, when they begin and every LOG_EVERY_MS while they go on,
 *            and that it goes well again; so is every change of the set.
 * Limits     WAITERS_MAX callers wait at once, wait_ms each: whoever comes then gets what is there.
 */
#ifndef AUTH_KEYS_H
#define AUTH_KEYS_H

#include "auth/key_set.h"
#include "base/err.h"

#include <stdbool.h>

struct keys;

/* 0 for the usual. Tests are in a hurry. */
struct keys_pace {
    int refresh_ms; /* 10 minutes */
    int pause_ms;   /* 5 seconds */
    int wait_ms;    /* 3 seconds */
};

struct keys_opts {
    const char *url; /* key_source.h */
    const char *user_agent;
    struct keys_pace pace;
};

/* Begins to read the set, and waits for nothing. */
int keys_start(struct keys **out, const struct keys_opts *opts, struct err *err) MUST_CHECK;

struct keys_status {
    bool has_keys;
    bool is_failing; /* the last reading failed */
    char problem[ERR_TEXT_MAX];
};
void keys_get_status(struct keys *keys, struct keys_status *out);

/* A reading that is under way is cancelled, and nobody waits any more. */
void keys_refuse(struct keys *keys);
void keys_stop(struct keys *keys); /* NULL is fine */

/* NULL: there never was a set that could be read; or the key isn't in it, and nobody may ask any more. */
struct key_set *keys_for(struct keys *keys, const char *key_id) MUST_CHECK;

#endif
