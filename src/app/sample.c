/* SPDX-License-Identifier: MIT */
#include "app/sample.h"

#include "base/clock.h"
#include "base/text.h"
#include "crypto/hmac.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ULID_CHARS = 26, ID_MAX = 64 };

/*
 * $(id) is the object's id, $(now) the time; everything else stands as it is. The members and their
 * order: workos/openapi-spec spec/open-api-spec.yaml, as WORKOS.md section 3 lists them.
 */
#define USER                                                                                   \
    "{\"object\":\"user\",\"id\":$(id),\"email\":\"ada@example.com\",\"email_verified\":true," \
    "\"first_name\":\"Ada\",\"last_name\":\"Lovelace\",\"name\":\"Ada Lovelace\","             \
    "\"profile_picture_url\":null,\"last_sign_in_at\":null,\"locale\":\"en\","                 \
    "\"external_id\":null,\"metadata\":{},\"created_at\":$(now),\"updated_at\":$(now)}"

static const struct sample {
    const char *start; /* of the type */
    const char *id_prefix;
    const char *data;
} samples[] = {
    {"user.", "user", USER},
    {"session.", "session",
     "{\"object\":\"session\",\"id\":$(id),\"user_id\":\"user_01EXAMPLE\","
     "\"organization_id\":null,\"auth_method\":\"password\",\"ip_address\":\"192.0.2.1\","
     "\"user_agent\":\"Mozilla/5.0\",\"impersonator\":null,\"status\":\"active\","
     "\"created_at\":$(now),\"updated_at\":$(now)}"},
    {"organization_membership.", "om",
     "{\"object\":\"organization_membership\",\"id\":$(id),\"user_id\":\"user_01EXAMPLE\","
     "\"organization_id\":\"org_01EXAMPLE\",\"role\":{\"slug\":\"member\"},\"status\":\"active\","
     "\"directory_managed\":false,\"custom_attributes\":{},\"created_at\":$(now),"
     "\"updated_at\":$(now)}"},
    {"organization.", "org",
     "{\"object\":\"organization\",\"id\":$(id),\"name\":\"Example Inc\",\"external_id\":null,"
     "\"stripe_customer_id\":null,\"allow_profiles_outside_organization\":false,\"domains\":[],"
     "\"metadata\":{},\"created_at\":$(now),\"updated_at\":$(now)}"},
    {"invitation.", "invitation",
     "{\"object\":\"invitation\",\"id\":$(id),\"email\":\"grace@example.com\","
     "\"state\":\"pending\",\"accepted_at\":null,\"revoked_at\":null,\"expires_at\":$(now),"
     "\"organization_id\":null,\"inviter_user_id\":null,\"created_at\":$(now),"
     "\"updated_at\":$(now)}"},
    {"", "sample", "{\"id\":$(id),\"created_at\":$(now),\"updated_at\":$(now)}"},
};

static const struct sample actions[] = {
    {"user_registration", "uract",
     "{\"id\":$(id),\"object\":\"user_registration_action_context\",\"user_data\":{"
     "\"object\":\"user_data\",\"email\":\"ada@example.com\",\"first_name\":\"Ada\","
     "\"last_name\":\"Lovelace\"},\"ip_address\":\"192.0.2.1\",\"user_agent\":\"Mozilla/5.0\"}"},
    {"authentication", "authact",
     "{\"id\":$(id),\"object\":\"authentication_action_context\",\"user\":{"
     "\"object\":\"user\",\"id\":\"user_01EXAMPLE\",\"email\":\"ada@example.com\","
     "\"email_verified\":true,\"first_name\":\"Ada\",\"last_name\":\"Lovelace\","
     "\"profile_picture_url\":null,\"created_at\":$(now),\"updated_at\":$(now)},"
     "\"ip_address\":\"192.0.2.1\",\"user_agent\":\"Mozilla/5.0\"}"},
};

static const struct sample *find_action(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(type, actions[i].start) == 0)
            return &actions[i];
    return NULL;
}

bool sample_is_action(const char *type)
{
    return find_action(type) != NULL;
}

/* 48 bits of time and 80 of chance in Crockford's base 32 (github.com/ulid/spec). */
static int write_ulid(char out[ULID_CHARS + 1], struct err *err)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t time_ms = (uint64_t)clock_wall_ms();
    unsigned char chance[ULID_CHARS - 10];
    int rc = crypto_random(chance, sizeof(chance), err);

    if (rc < 0)
        return rc;
    for (int i = 9; i >= 0; i--) {
        out[i] = digits[time_ms & 31];
        time_ms >>= 5;
    }
    for (size_t i = 0; i < sizeof(chance); i++)
        out[10 + i] = digits[chance[i] & 31];
    out[ULID_CHARS] = '\0';
    return 0;
}

/* An id as a JSON string: the given one, or a new one in WorkOS's form. */
static int put_id(struct buf *out, const char *given, const char *prefix, struct err *err)
{
    char ulid[ULID_CHARS + 1], id[ID_MAX];
    int rc;

    if (given) {
        buf_put_json_string(out, given, strlen(given));
        return 0;
    }
    rc = write_ulid(ulid, err);
    if (rc < 0)
        return rc;
    snprintf(id, sizeof(id), "%s_%s", prefix, ulid);
    buf_put_json_string(out, id, strlen(id));
    return 0;
}

/* $(id) and $(now) stand for JSON strings, quotes included. */
static int put_sample(struct buf *out, const struct sample *sample, const char *id, const char *now,
                      struct err *err)
{
    const char *text = sample->data, *mark;
    int rc = 0;

    while (rc == 0 && (mark = strstr(text, "$(")) != NULL) {
        buf_put(out, text, (size_t)(mark - text));
        if (text_starts_with(mark, "$(id)"))
            rc = put_id(out, id, sample->id_prefix, err);
        else
            buf_printf(out, "\"%s\"", now);
        text = strchr(mark, ')') + 1;
    }
    buf_puts(out, text);
    return rc;
}

static bool is_event_type(const char *type)
{
    const char *dot = strchr(type, '.');

    return dot && dot != type && dot[1] &&
           strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789_.") == strlen(type);
}

static const struct sample *find_sample(const char *type)
{
    const struct sample *sample = samples;

    while (!text_starts_with(type, sample->start))
        sample++; /* the last one fits everything */
    return sample;
}

int sample_check_type(const char *type, struct err *err)
{
    if (find_action(type) || is_event_type(type))
        return 0;
    return err_set(err, ERR_INVALID,
                   "'%s' isn't an event type such as user.created, nor an action "
                   "(user_registration, authentication)",
                   type);
}

int sample_write(const struct sample_opts *opts, struct buf *out, struct err *err)
{
    const struct sample *sample = find_action(opts->type);
    char now[CLOCK_TEXT_MAX];
    bool is_action = sample != NULL;
    int rc = sample_check_type(opts->type, err);

    if (rc < 0)
        return rc;
    if (!is_action)
        sample = find_sample(opts->type);
    clock_format_ms(clock_wall_ms(), now);
    if (!is_action) {
        buf_puts(out, "{\"id\":");
        rc = put_id(out, opts->event_id, "event", err);
        buf_puts(out, ",\"data\":");
    }
    if (opts->data)
        buf_put(out, opts->data, opts->data_len);
    else if (rc == 0)
        rc = put_sample(out, sample, opts->object_id, now, err);
    if (rc < 0)
        return rc;
    if (!is_action)
        buf_printf(out, ",\"event\":\"%s\",\"created_at\":\"%s\"}", opts->type, now);
    return buf_ok(out) ? 0 : err_set(err, ERR_NOMEM, "no memory for the sample");
}

/* ---------------------------------------------------------------------------------- the list */

/* A row without a type is the head of a group. */
static const struct {
    const char *type, *word;
} list[] = {
    {NULL, "users"},
    {"user.created", "somebody registered, or was added"},
    {"user.updated", "a name, an address or another detail changed"},
    {"user.deleted", "somebody is gone"},
    {NULL, "sessions"},
    {"session.created", "somebody signed in"},
    {"session.revoked", "somebody signed out, or was signed out"},
    {NULL, "organizations"},
    {"organization.created", "a new organization"},
    {"organization.updated", "its name, its domains or another detail changed"},
    {"organization.deleted", "it is gone"},
    {NULL, "memberships"},
    {"organization_membership.created", "a user belongs to an organization"},
    {"organization_membership.updated", "their role or status in it changed"},
    {"organization_membership.deleted", "they don't belong to it any more"},
    {NULL, "invitations"},
    {"invitation.created", "somebody was invited"},
    {"invitation.accepted", "and came"},
    {"invitation.resent", "the invitation was sent again"},
    {"invitation.revoked", "and taken back"},
    {NULL, "actions (they are asked, and the signed verdict is shown)"},
    {"user_registration", "may this person register?"},
    {"authentication", "may this person sign in?"},
};

void sample_put_list(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        if (list[i].type)
            buf_printf(out, "  %-32s %s\n", list[i].type, list[i].word);
        else
            buf_printf(out, "%s%s\n", i > 0 ? "\n" : "", list[i].word);
    }
    buf_puts(out, "\nAny other type works as well, with a small object for its data: "
                  "authkitd send role.created\n");
}
