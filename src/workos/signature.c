/* SPDX-License-Identifier: MIT */
#include "workos/signature.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "crypto/hmac.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMESTAMP_DIGITS_MAX = 16 };
static const int64_t seconds_below = 100000000000; /* 10^11 ms is 1973: earlier is seconds */

struct signing_keys {
    struct hmac_key *keys[SIGNATURE_SECRETS_MAX];
    size_t count;
};

/* A borrowed piece of the header. */
struct piece {
    const char *at;
    size_t len;
};

static struct piece trim(const char *at, size_t len)
{
    while (len > 0 && (at[0] == ' ' || at[0] == '\t')) {
        at++;
        len--;
    }
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return (struct piece){at, len};
}

int signing_keys_new(struct signing_keys **out, const char *secrets, struct err *err)
{
    struct signing_keys *keys = calloc(1, sizeof(*keys));
    int rc = 0;

    if (!keys)
        return err_set(err, ERR_NOMEM, "no memory for a signing secret");
    for (;;) {
        size_t len = strcspn(secrets, ",");
        struct piece secret = trim(secrets, len);

        if (secret.len > 0) {
            if (keys->count == SIGNATURE_SECRETS_MAX)
                rc = err_set(err, ERR_INVALID, "more than %d secrets", SIGNATURE_SECRETS_MAX);
            else
                rc = hmac_key_new(&keys->keys[keys->count], secret.at, secret.len, err);
            if (rc < 0)
                goto fail;
            keys->count++;
        }
        if (secrets[len] == '\0')
            break;
        secrets += len + 1;
    }
    if (keys->count == 0) {
        rc = err_set(err, ERR_INVALID, "there is no secret in it");
        goto fail;
    }
    *out = keys;
    return 0;
fail:
    signing_keys_free(keys);
    return rc;
}

void signing_keys_free(struct signing_keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++)
        hmac_key_free(keys->keys[i]);
    free(keys);
}

/* Splits "t=…, v1=…"; false when t or v1 is missing, there twice or of the wrong form. */
static bool parse_header(const char *header, struct piece *t, struct piece *v1)
{
    *t = *v1 = (struct piece){NULL, 0};
    if (strlen(header) > 1024)
        return false;
    for (;;) {
        size_t len = strcspn(header, ",");
        struct piece part = trim(header, len);
        struct piece *slot = NULL;
        size_t name_len = 0;

        if (part.len >= 2 && memcmp(part.at, "t=", 2) == 0)
            slot = t, name_len = 2;
        else if (part.len >= 3 && memcmp(part.at, "v1=", 3) == 0)
            slot = v1, name_len = 3;
        if (slot) {
            if (slot->at)
                return false;
            *slot = (struct piece){part.at + name_len, part.len - name_len};
        }
        if (header[len] == '\0')
            break;
        header += len + 1;
    }
    return t->at && t->len > 0 && t->len <= TIMESTAMP_DIGITS_MAX &&
           strspn(t->at, "0123456789") >= t->len && v1->at && v1->len == HMAC_SHA256_HEX &&
           strspn(v1->at, "0123456789abcdefABCDEF") >= v1->len;
}

/* Every secret is tried, whether one before it fitted or not: the time taken says nothing. */
static enum signature_status compare(const struct signing_keys *keys, struct piece t,
                                     struct piece v1, const char *body, size_t body_len,
                                     size_t *out_key)
{
    const struct crypto_part parts[] = {{t.at, t.len}, {".", 1}, {body, body_len}};
    bool fits = false;

    for (size_t i = 0; i < keys->count; i++) {
        unsigned char mac[HMAC_SHA256_BYTES];
        char hex[HMAC_SHA256_HEX + 1];

        if (hmac_sha256(keys->keys[i], parts, ARRAY_LEN(parts), mac, NULL) < 0)
            return SIGNATURE_BROKEN;
        crypto_hex(mac, sizeof(mac), hex);
        if (crypto_equal(hex, v1.at, HMAC_SHA256_HEX)) {
            fits = true;
            *out_key = i;
        }
    }
    return fits ? SIGNATURE_OK : SIGNATURE_MISMATCH;
}

enum signature_status signature_verify(const struct signing_keys *keys, const char *header,
                                       const char *body, size_t body_len, int64_t now_ms,
                                       int64_t tolerance_ms, struct signature_facts *out)
{
    struct piece t, v1;
    enum signature_status status;
    uint64_t timestamp;

    if (!header || trim(header, strlen(header)).len == 0)
        return SIGNATURE_MISSING;
    if (!parse_header(header, &t, &v1) || !text_to_u64(t.at, t.len, INT64_MAX, &timestamp))
        return SIGNATURE_MALFORMED;
    status = compare(keys, t, v1, body, body_len, &out->key);
    if (status != SIGNATURE_OK)
        return status;
    if ((int64_t)timestamp < seconds_below)
        timestamp *= 1000;
    out->skew_ms = now_ms - (int64_t)timestamp;
    return out->skew_ms > tolerance_ms || out->skew_ms < -tolerance_ms ? SIGNATURE_STALE
                                                                       : SIGNATURE_OK;
}

void signature_log_refusal(const char *name, enum signature_status status,
                           const struct signature_facts *facts)
{
    static const char *const reasons[SIGNATURE_STATUSES] = {
        [SIGNATURE_MISSING] = "refused: the WorkOS-Signature header is missing",
        [SIGNATURE_MALFORMED] = "refused: the WorkOS-Signature header is malformed",
        [SIGNATURE_MISMATCH] = "refused: the signature doesn't fit: a forgery, or the secret is "
                               "another endpoint's",
        [SIGNATURE_STALE] =
            "refused: the signature is right, but its time is too far from this clock",
    };
    static struct log_limit limits[SIGNATURE_STATUSES];

    if (!reasons[status] || !log_may(&limits[status]))
        return;
    if (status == SIGNATURE_STALE)
        log_warn(reasons[status], log_str("endpoint", name), log_int("skew_ms", facts->skew_ms));
    else
        log_warn(reasons[status], log_str("endpoint", name));
}

int signature_make(const struct signing_keys *keys, size_t key, int64_t timestamp_ms,
                   const char *body, size_t body_len, char out_hex[65], struct err *err)
{
    char t[24];
    int t_len = snprintf(t, sizeof(t), "%" PRId64 ".", timestamp_ms);
    const struct crypto_part parts[] = {{t, (size_t)t_len}, {body, body_len}};
    unsigned char mac[HMAC_SHA256_BYTES];
    int rc = hmac_sha256(keys->keys[key], parts, ARRAY_LEN(parts), mac, err);

    if (rc == 0)
        crypto_hex(mac, sizeof(mac), out_hex);
    return rc;
}

int signature_make_header(const struct signing_keys *keys, int64_t timestamp_ms, const char *body,
                          size_t body_len, char out[SIGNATURE_HEADER_MAX], struct err *err)
{
    char hex[HMAC_SHA256_HEX + 1];
    int rc = signature_make(keys, 0, timestamp_ms, body, body_len, hex, err);

    if (rc == 0)
        snprintf(out, SIGNATURE_HEADER_MAX, "t=%" PRId64 ", v1=%s", timestamp_ms, hex);
    return rc;
}
