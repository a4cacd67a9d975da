/* SPDX-License-Identifier: MIT */
#include "auth/token.h"

#include "base/base64.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Above it a double skips whole numbers; and no date is there. */
#define DATE_MAX_S 9007199254740992.0

static enum token_status refuse(struct token *token, enum token_status status, const char *reason)
{
    token->reason = reason;
    return status;
}

static enum token_status no_memory(struct token *token)
{
    return refuse(token, TOKEN_TROUBLE, "no memory for a token");
}

/* ---------------------------------------------------------------------------------- names */

int token_names_init(struct token_names *out, const char *commas, struct err *err)
{
    struct token_names names = {.text = strdup(commas ? commas : "")};
    char *rest = NULL;
    size_t most = 1;

    for (const char *c = commas; c && *c; c++)
        most += *c == ',';
    names.items = calloc(most, sizeof(*names.items));
    if (!names.text || !names.items) {
        token_names_release(&names);
        return err_set(err, ERR_NOMEM, "no memory for the rules of access tokens");
    }
    for (char *name = strtok_r(names.text, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        size_t len;

        name += strspn(name, " \t");
        len = strlen(name);
        while (len > 0 && strchr(" \t", name[len - 1]))
            name[--len] = '\0';
        if (len > 0)
            names.items[names.count++] = name;
    }
    *out = names;
    return 0;
}

void token_names_release(struct token_names *names)
{
    free(names->items);
    free(names->text);
    *names = (struct token_names){0};
}

/* ---------------------------------------------------------------------------------- opening */

/* A part's bytes as a JSON object. The nodes borrow from text. */
static enum token_status read_object(struct token *token, const char *part, size_t len,
                                     struct buf *text, struct json *json, enum token_status not_one)
{
    char *room = buf_reserve(text, base64url_size(len));
    int rc;

    if (!room)
        return no_memory(token);
    if (!base64url_decode(part, len, room))
        return refuse(token, not_one, "a part isn't base64url");
    buf_added(text, base64url_size(len));
    rc = json_read(json, text->data, text->len, NULL);
    if (rc == ERR_NOMEM)
        return no_memory(token);
    if (rc < 0)
        return refuse(token, not_one, "a part isn't JSON");
    if (json->nodes[0].type != JSON_OBJECT)
        return refuse(token, not_one, "a part isn't a JSON object");
    return TOKEN_OK;
}

/* What we don't do is never done by the header's wish: one algorithm, and no extensions. */
static enum token_status read_header(struct token *token, const struct json *header)
{
    uint32_t algorithm = json_string_member(header, 0, "alg");
    uint32_t key_id = json_string_member(header, 0, "kid");
    size_t len;

    if (!algorithm || !json_equals(header, algorithm, "RS256"))
        return refuse(token, TOKEN_MALFORMED, "the header's \"alg\" isn't \"RS256\"");
    if (json_member(header, 0, "crit"))
        return refuse(token, TOKEN_MALFORMED, "the header has \"crit\"");
    if (!key_id || header->nodes[key_id].len == 0 || header->nodes[key_id].len > KEY_ID_MAX)
        return refuse(token, TOKEN_MALFORMED, "the header has no \"kid\", or a very long one");
    len = json_decode(header, key_id, token->key_id);
    token->key_id[len] = '\0';
    return TOKEN_OK;
}

/* The signature is the last part: what is too long for any key's isn't decoded. */
static enum token_status read_signature(struct token *token, const char *part, size_t len)
{
    size_t size = base64url_size(len);

    if (size > sizeof(token->signature) || !base64url_decode(part, len, token->signature))
        return refuse(token, TOKEN_MALFORMED, "the signature isn't base64url, or is too long");
    token->signature_len = size;
    return TOKEN_OK;
}

enum token_status token_open(struct token *out, const char *text, size_t len)
{
    const char *first, *second, *end = text + len;
    struct buf header_text = BUF_INIT(TOKEN_MAX);
    struct json header = {0};
    enum token_status status;

    *out = (struct token){.text = text, .claims_text = BUF_INIT(TOKEN_MAX)};
    if (len > TOKEN_MAX)
        return refuse(out, TOKEN_MALFORMED, "it is too long");
    first = memchr(text, '.', len);
    second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return refuse(out, TOKEN_MALFORMED, "it doesn't have three parts");
    out->signed_len = (size_t)(second - text);
    out->claims_part = first + 1;
    out->claims_part_len = (size_t)(second - first - 1);
    status = read_object(out, text, (size_t)(first - text), &header_text, &header, TOKEN_MALFORMED);
    if (status == TOKEN_OK)
        status = read_header(out, &header);
    if (status == TOKEN_OK)
        status = read_signature(out, second + 1, (size_t)(end - second - 1));
    json_release(&header);
    buf_release(&header_text);
    return status;
}

enum token_status token_verify(struct token *token, const struct key_set *set)
{
    bool is_genuine = false;

    if (!key_set_has(set, token->key_id))
        return refuse(token, TOKEN_UNKNOWN_KEY, "the key set has no key of that id");
    if (key_set_verify(set, token->key_id, token->text, token->signed_len, token->signature,
                       token->signature_len, &is_genuine, NULL) < 0)
        return no_memory(token);
    return is_genuine ? TOKEN_OK
                      : refuse(token, TOKEN_FORGED, "the signature isn't that of the key");
}

/* ---------------------------------------------------------------------------------- claims */

/* The claim isn't for us, and it may be the configuration that is wrong. */
static enum token_status foreign(struct token *token, uint32_t claim, const char *reason,
                                 const char *mend)
{
    const struct json_node *node = &token->claims.nodes[claim];

    token->found = token->claims.text + node->start; /* of a string, without its quotes */
    token->found_len = node->len;
    token->mend = mend;
    return refuse(token, TOKEN_NOT_OURS, reason);
}

static bool is_one_of(const struct token *token, uint32_t value, const struct token_names *names)
{
    if (token->claims.nodes[value].type != JSON_STRING)
        return false;
    for (size_t i = 0; i < names->count; i++)
        if (json_equals(&token->claims, value, names->items[i]))
            return true;
    return false;
}

static enum token_status check_issuer(struct token *token, const struct token_rules *rules)
{
    uint32_t issuer = json_string_member(&token->claims, 0, "iss");

    if (!issuer)
        return refuse(token, TOKEN_NOT_OURS, "it has no \"iss\"");
    if (!is_one_of(token, issuer, &rules->issuers))
        return foreign(token, issuer, "its issuer isn't one of ours", "--issuer");
    return TOKEN_OK;
}

/* A string, or an array of strings. */
static enum token_status check_audience(struct token *token, const struct token_rules *rules)
{
    uint32_t audience = json_member(&token->claims, 0, "aud");
    const struct json_node *nodes = token->claims.nodes;
    bool is_ours;

    if (!audience)
        return TOKEN_OK;
    is_ours = is_one_of(token, audience, &rules->audiences);
    if (nodes[audience].type == JSON_ARRAY) {
        for (uint32_t i = audience + 1; i < nodes[audience].next; i = nodes[i].next) {
            if (nodes[i].type != JSON_STRING)
                return refuse(token, TOKEN_NOT_OURS, "its \"aud\" has what isn't a string");
            is_ours = is_ours || is_one_of(token, i, &rules->audiences);
        }
    } else if (nodes[audience].type != JSON_STRING) {
        return refuse(token, TOKEN_NOT_OURS, "its \"aud\" isn't a string or a list of strings");
    }
    return is_ours
               ? TOKEN_OK
               : foreign(token, audience, "its audience isn't one of ours",
                         rules->audiences.count ? "--audience" : "WORKOS_CLIENT_ID or --audience");
}

static enum token_status check_client(struct token *token, const struct token_rules *rules)
{
    uint32_t client = json_member(&token->claims, 0, "client_id");

    if (!client || !rules->client_id)
        return TOKEN_OK;
    if (token->claims.nodes[client].type != JSON_STRING)
        return refuse(token, TOKEN_NOT_OURS, "its \"client_id\" isn't a string");
    return json_equals(&token->claims, client, rules->client_id)
               ? TOKEN_OK
               : foreign(token, client, "its client id isn't ours", "WORKOS_CLIENT_ID");
}

/* No control characters, and no U+FFFD: that is what the reader makes of those that no text can have. */
static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c < ' ' || c == 0x7F || (c == 0xC2 && (unsigned char)text[i + 1] < 0xA0))
            return false;
    }
    return !memmem(text, len, TEXT_REPLACEMENT, strlen(TEXT_REPLACEMENT));
}

static enum token_status take_subject(struct token *token)
{
    uint32_t subject = json_string_member(&token->claims, 0, "sub");
    char decoded[6 * TOKEN_SUBJECT_MAX]; /* an escape is at most six times what it stands for */
    size_t len;

    if (!subject || token->claims.nodes[subject].len > sizeof(decoded))
        return refuse(token, TOKEN_NOT_OURS, "it has no \"sub\", or a very long one");
    len = json_decode(&token->claims, subject, decoded);
    if (len == 0 || len > TOKEN_SUBJECT_MAX || !is_plain(decoded, len))
        return refuse(token, TOKEN_NOT_OURS, "its \"sub\" is empty, too long, or no plain text");
    memcpy(token->subject, decoded, len);
    token->subject[len] = '\0';
    return TOKEN_OK;
}

/* False when the claim is there and is no date. *out stays as it is when it isn't there. */
static bool take_date_ms(const struct token *token, const char *name, double *out_ms)
{
    uint32_t claim = json_member(&token->claims, 0, name);
    double seconds;

    if (!claim)
        return true;
    if (token->claims.nodes[claim].type != JSON_NUMBER)
        return false;
    seconds = json_to_real(&token->claims, claim);
    if (!(fabs(seconds) <= DATE_MAX_S))
        return false;
    *out_ms = seconds * 1000;
    return true;
}

/* Good from "nbf", and before "exp". One that was issued in the future isn't good yet. */
static enum token_status check_dates(struct token *token, int64_t now_ms)
{
    double exp_ms = -INFINITY, nbf_ms = -INFINITY, iat_ms = -INFINITY, now = (double)now_ms;

    if (!json_member(&token->claims, 0, "exp"))
        return refuse(token, TOKEN_NOT_OURS, "it has no \"exp\"");
    if (!take_date_ms(token, "exp", &exp_ms) || !take_date_ms(token, "nbf", &nbf_ms) ||
        !take_date_ms(token, "iat", &iat_ms))
        return refuse(token, TOKEN_NOT_OURS, "its \"exp\", \"nbf\" or \"iat\" isn't a date");
    if (now >= exp_ms + TOKEN_LEEWAY_MS)
        return refuse(token, TOKEN_EXPIRED, "it has expired");
    if (nbf_ms > now + TOKEN_LEEWAY_MS)
        return refuse(token, TOKEN_EARLY, "its \"nbf\" is in the future");
    if (iat_ms > now + TOKEN_LEEWAY_MS)
        return refuse(token, TOKEN_EARLY, "its \"iat\" is in the future");
    return TOKEN_OK;
}

/* Whom it is for comes before when it is good: of a stranger's token that isn't told. */
enum token_status token_check(struct token *token, const struct token_rules *rules, int64_t now_ms)
{
    enum token_status status = read_object(token, token->claims_part, token->claims_part_len,
                                           &token->claims_text, &token->claims, TOKEN_NOT_OURS);

    if (status == TOKEN_OK)
        status = check_issuer(token, rules);
    if (status == TOKEN_OK)
        status = check_audience(token, rules);
    if (status == TOKEN_OK)
        status = check_client(token, rules);
    if (status == TOKEN_OK)
        status = take_subject(token);
    if (status == TOKEN_OK)
        status = check_dates(token, now_ms);
    return status;
}

void token_release(struct token *token)
{
    json_release(&token->claims);
    buf_release(&token->claims_text);
}
