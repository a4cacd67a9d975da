/* SPDX-License-Identifier: MIT */
#include "auth/key_set.h"

#include "base/base64.h"
#include "base/json.h"
#include "crypto/rsa.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* So many characters have the largest numbers that are looked at; rsa.h is the one to refuse them. */
enum { NUMBER_TEXT_MAX = RSA_BYTES_MAX / 3 * 4 + 64 };

struct named_key {
    char id[KEY_ID_MAX + 1];
    struct rsa_key *key;
};

struct key_set {
    atomic_int shares;
    size_t count, passed_over;
    struct named_key keys[]; /* count of them */
};

/* ---------------------------------------------------------------------------------- reading */

/* The key's member, as text: false when it isn't a string of at most max bytes. */
static bool take_text(const struct json *json, uint32_t object, const char *name, char *out,
                      size_t max)
{
    uint32_t value = json_string_member(json, object, name);
    size_t len;

    if (!value || json->nodes[value].len > max)
        return false;
    len = json_decode(json, value, out);
    out[len] = '\0';
    return len > 0 && strlen(out) == len;
}

/* The key's big number: false when it isn't base64url. */
static bool take_number(const struct json *json, uint32_t object, const char *name,
                        unsigned char *out, size_t *out_len)
{
    char text[NUMBER_TEXT_MAX + 1];

    if (!take_text(json, object, name, text, NUMBER_TEXT_MAX))
        return false;
    *out_len = base64url_size(strlen(text));
    return base64url_decode(text, strlen(text), out);
}

/* True when the member isn't there, or is that text. */
static bool allows(const struct json *json, uint32_t object, const char *name, const char *text)
{
    uint32_t value = json_member(json, object, name);

    return !value || (json->nodes[value].type == JSON_STRING && json_equals(json, value, text));
}

/* ERR_INVALID when it is none of ours. */
static int take_key(const struct json *json, uint32_t object, struct named_key *out,
                    struct err *err)
{
    unsigned char n[NUMBER_TEXT_MAX], e[NUMBER_TEXT_MAX];
    size_t n_len, e_len;
    uint32_t type;

    if (json->nodes[object].type != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "it isn't an object");
    type = json_string_member(json, object, "kty");
    if (!type || !json_equals(json, type, "RSA"))
        return err_set(err, ERR_INVALID, "its \"kty\" isn't \"RSA\"");
    if (!allows(json, object, "use", "sig"))
        return err_set(err, ERR_INVALID, "its \"use\" isn't \"sig\"");
    if (!allows(json, object, "alg", "RS256"))
        return err_set(err, ERR_INVALID, "its \"alg\" isn't \"RS256\"");
    if (!take_text(json, object, "kid", out->id, KEY_ID_MAX))
        return err_set(err, ERR_INVALID, "it has no \"kid\", or one of more than %d bytes",
                       KEY_ID_MAX);
    if (!take_number(json, object, "n", n, &n_len) || !take_number(json, object, "e", e, &e_len))
        return err_set(err, ERR_INVALID,
                       "its \"n\" or \"e\" isn't a number in base64url, or is far too large");
    return rsa_key_new(&out->key, n, n_len, e, e_len, err);
}

/* Room for all keys of the list that can be taken. */
static struct key_set *set_new(size_t most)
{
    struct key_set *set = calloc(1, sizeof(*set) + most * sizeof(struct named_key));

    if (set)
        atomic_init(&set->shares, 1);
    return set;
}

static int take_keys(struct key_set *set, const struct json *json, uint32_t list, struct err *err)
{
    struct err why, first = {0};
    int rc;

    for (uint32_t i = list + 1; i < json->nodes[list].next; i = json->nodes[i].next) {
        if (set->count == KEY_SET_MAX) {
            set->passed_over++;
            continue;
        }
        rc = take_key(json, i, &set->keys[set->count], &why);
        if (rc == ERR_NOMEM)
            return err_set(err, rc, "%s", why.text);
        if (rc == 0) {
            set->count++;
        } else {
            set->passed_over++;
            if (!first.code)
                first = why;
        }
    }
    if (set->count > 0)
        return 0;
    if (!first.code)
        return err_set(err, ERR_INVALID, "its list of keys is empty");
    return err_set(err, ERR_INVALID, "none of its keys can be used; of the first: %s", first.text);
}

int key_set_read(struct key_set **out, const char *text, size_t len, struct err *err)
{
    struct json json = {0};
    struct key_set *set = NULL;
    uint32_t list;
    size_t most;
    int rc = json_read(&json, text, len, err);

    if (rc < 0)
        goto out;
    list = json_member(&json, 0, "keys");
    if (!list || json.nodes[list].type != JSON_ARRAY) {
        rc = err_set(err, ERR_INVALID, "it has no list of \"keys\": it isn't a JWKS");
        goto out;
    }
    most = json.nodes[list].count < KEY_SET_MAX ? json.nodes[list].count : KEY_SET_MAX;
    set = set_new(most + 1); /* one more: where a key is tried that isn't taken */
    rc =
        set ? take_keys(set, &json, list, err) : err_set(err, ERR_NOMEM, "no memory for a key set");
    if (rc < 0)
        goto out;
    *out = set;
    set = NULL;
out:
    key_set_release(set);
    json_release(&json);
    return rc;
}

/* ---------------------------------------------------------------------------------- sharing */

struct key_set *key_set_share(struct key_set *set)
{
    atomic_fetch_add(&set->shares, 1);
    return set;
}

void key_set_release(struct key_set *set)
{
    if (!set || atomic_fetch_sub(&set->shares, 1) > 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        rsa_key_free(set->keys[i].key);
    free(set);
}

/* ---------------------------------------------------------------------------------- questions */

size_t key_set_count(const struct key_set *set)
{
    return set->count;
}

size_t key_set_passed_over(const struct key_set *set)
{
    return set->passed_over;
}

static bool has_key(const struct key_set *set, const struct named_key *key)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->keys[i].id, key->id) == 0 && rsa_key_equal(set->keys[i].key, key->key))
            return true;
    return false;
}

bool key_set_equal(const struct key_set *a, const struct key_set *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = has_key(b, &a->keys[i]) && has_key(a, &b->keys[i]);
    return same;
}

bool key_set_has(const struct key_set *set, const char *key_id)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->keys[i].id, key_id) == 0)
            return true;
    return false;
}

int key_set_verify(const struct key_set *set, const char *key_id, const void *message, size_t len,
                   const void *signature, size_t signature_len, bool *out, struct err *err)
{
    bool is_genuine = false;
    int rc = 0;

    for (size_t i = 0; rc == 0 && !is_genuine && i < set->count; i++)
        if (strcmp(set->keys[i].id, key_id) == 0)
            rc = rsa_verify_rs256(set->keys[i].key, message, len, signature, signature_len,
                                  &is_genuine, err);
    if (rc == 0)
        *out = is_genuine;
    return rc;
}
