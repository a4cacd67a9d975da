/* SPDX-License-Identifier: MIT */
#include "auth/auth.h"

#include "auth/key_source.h"
#include "auth/token.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SHOWN_MAX = 200 };

struct auth {
    struct token_rules rules;
    char *client_id; /* what rules borrows */
    struct keys *keys;
    struct metric_counter counts[TOKENS_OUTCOMES];
};

/* ---------------------------------------------------------------------------------- start, stop */

static int fill_rules(struct auth *auth, const struct auth_opts *opts, struct err *err)
{
    const char *audiences = opts->audiences ? opts->audiences : opts->client_id;
    int rc = token_names_init(&auth->rules.issuers, opts->issuers, err);

    if (rc == 0)
        rc = token_names_init(&auth->rules.audiences, audiences, err);
    if (rc < 0 || !opts->client_id)
        return rc;
    auth->client_id = strdup(opts->client_id);
    auth->rules.client_id = auth->client_id;
    return auth->client_id ? 0 : err_set(err, ERR_NOMEM, "no memory for the client id");
}

int auth_start(struct auth **out, const struct auth_opts *opts, struct err *err)
{
    const struct keys_opts keys_opts = {
        .url = opts->jwks_url,
        .user_agent = opts->user_agent,
        .pace = opts->pace,
    };
    struct auth *auth = calloc(1, sizeof(*auth));
    int rc;

    if (!auth)
        return err_set(err, ERR_NOMEM, "no memory for access tokens");
    rc = fill_rules(auth, opts, err);
    if (rc == 0)
        rc = keys_start(&auth->keys, &keys_opts, err);
    if (rc < 0) {
        auth_stop(auth);
        return rc;
    }
    if (key_source_is_open_to_others(opts->jwks_url))
        log_warn("the key set of access tokens comes over plain HTTP: whoever can change it on its "
                 "way can sign tokens; use https",
                 log_bytes("url", opts->jwks_url, strcspn(opts->jwks_url, "?")));
    *out = auth;
    return 0;
}

void auth_refuse(struct auth *auth)
{
    if (auth)
        keys_refuse(auth->keys);
}

void auth_stop(struct auth *auth)
{
    if (!auth)
        return;
    keys_stop(auth->keys);
    token_names_release(&auth->rules.issuers);
    token_names_release(&auth->rules.audiences);
    free(auth->client_id);
    free(auth);
}

/* ---------------------------------------------------------------------------------- answers */

static void answer(struct auth_session *out, enum auth_status status, const char *code,
                   const char *message)
{
    out->status = status;
    out->code = code;
    out->message = message;
}

static void answer_invalid(struct auth_session *out)
{
    answer(out, AUTH_REFUSED, "token_invalid", "the access token isn't valid");
}

static void answer_unavailable(struct auth_session *out)
{
    answer(out, AUTH_UNAVAILABLE, "keys_unavailable",
           "access tokens can't be checked now; try again in a moment");
}

static void answer_status(struct auth_session *out, enum token_status status)
{
    switch (status) {
    case TOKEN_OK:
        answer(out, AUTH_OK, "", "");
        break;
    case TOKEN_EXPIRED:
        answer(out, AUTH_REFUSED, "token_expired", "the access token has expired");
        break;
    case TOKEN_EARLY:
        answer(out, AUTH_REFUSED, "token_not_yet_valid", "the access token isn't valid yet");
        break;
    case TOKEN_TROUBLE:
        answer_unavailable(out);
        break;
    case TOKEN_MALFORMED:
    case TOKEN_UNKNOWN_KEY:
    case TOKEN_FORGED:
    case TOKEN_NOT_OURS:
        answer_invalid(out);
        break;
    }
}

/* What the configuration refuses is the operator's to know, at most once a second: only he can mend
 * it, if it was meant for us. What strangers send is for who looks for it. */
static void log_refusal(const struct token *token, enum token_status status)
{
    static struct log_limit limit, clock_limit;
    struct log_field found = log_bytes("found", token->found,
                                       token->found_len < SHOWN_MAX ? token->found_len : SHOWN_MAX);
    bool is_genuine = status == TOKEN_NOT_OURS || status == TOKEN_EXPIRED || status == TOKEN_EARLY;

    if (status == TOKEN_OK)
        return;
    if (token->mend && log_may(&limit))
        log_warn("a genuine access token isn't for this server, as it is configured",
                 log_str("reason", token->reason), found, log_str("option", token->mend));
    else if (status == TOKEN_EARLY && log_may(&clock_limit))
        log_warn(
            "a genuine access token isn't valid yet: this machine's clock is behind; set it right",
            log_str("reason", token->reason), log_str("key", token->key_id));
    else
        log_debug("an access token was refused", log_str("reason", token->reason), found,
                  log_str("key", is_genuine || status == TOKEN_FORGED ? token->key_id : NULL));
}

/* ---------------------------------------------------------------------------------- checking */

/* The token in the header, or NULL when there is none. Blanks at its end are HTTP's, not the token's. */
static const char *find_token(const char *authorization, size_t *out_len)
{
    static const char scheme[] = "bearer";
    const size_t scheme_len = sizeof(scheme) - 1;
    const char *token;
    size_t len;

    if (!authorization)
        return NULL;
    authorization += strspn(authorization, " \t");
    if (strncasecmp(authorization, scheme, scheme_len) != 0 || authorization[scheme_len] != ' ')
        return NULL;
    token = authorization + scheme_len;
    token += strspn(token, " ");
    len = strlen(token);
    while (len > 0 && strchr(" \t", token[len - 1]))
        len--;
    *out_len = len;
    return len > 0 ? token : NULL;
}

static enum token_status check_genuine(struct token *token, const struct token_rules *rules,
                                       const struct key_set *set)
{
    enum token_status status = token_verify(token, set);

    return status == TOKEN_OK ? token_check(token, rules, clock_wall_ms()) : status;
}

/* What the token's claims are in becomes the session's. */
static void take_claims(struct auth_session *out, struct token *token)
{
    out->user_id = strdup(token->subject);
    if (!out->user_id) {
        answer_unavailable(out);
        return;
    }
    out->text = token->claims_text;
    out->claims = token->claims;
    token->claims_text = BUF_INIT(0);
    token->claims = (struct json){0};
}

static void check_token(struct auth *auth, const char *text, size_t len, struct auth_session *out)
{
    struct token token;
    enum token_status status = token_open(&token, text, len);
    struct key_set *set = NULL;

    if (status == TOKEN_OK) {
        set = keys_for(auth->keys, token.key_id);
        if (!set) {
            answer_unavailable(out);
            token_release(&token);
            return;
        }
        status = check_genuine(&token, &auth->rules, set);
        key_set_release(set);
    }
    answer_status(out, status);
    log_refusal(&token, status);
    if (status == TOKEN_OK)
        take_claims(out, &token);
    token_release(&token);
}

static size_t outcome_of(const struct auth_session *session)
{
    switch (session->status) {
    case AUTH_OK:
        return TOKENS_OK;
    case AUTH_ABSENT:
        return TOKENS_MISSING;
    case AUTH_UNAVAILABLE:
        return TOKENS_UNAVAILABLE;
    case AUTH_REFUSED:
        break;
    }
    return strcmp(session->code, "token_expired") == 0 ? TOKENS_EXPIRED : TOKENS_INVALID;
}

void auth_check(struct auth *auth, const char *authorization, struct auth_session *out)
{
    const char *text;
    size_t len = 0;

    *out = (struct auth_session){.text = BUF_INIT(0)};
    text = find_token(authorization, &len);
    if (!auth)
        answer(out, AUTH_UNAVAILABLE, "tokens_off",
               "this server checks no access tokens: WORKOS_CLIENT_ID isn't set");
    else if (!text)
        answer(out, AUTH_ABSENT, "token_missing",
               "an access token is needed, in the header Authorization: Bearer …");
    else
        check_token(auth, text, len, out);
    if (auth)
        metric_count(&auth->counts[outcome_of(out)]);
}

const char *const auth_outcome_names[TOKENS_OUTCOMES] = {"ok", "missing", "invalid", "expired",
                                                         "unavailable"};

const struct metric_counter *auth_counts(const struct auth *auth)
{
    return auth->counts;
}

void auth_get_status(struct auth *auth, struct keys_status *out)
{
    keys_get_status(auth->keys, out);
}

void auth_session_release(struct auth_session *session)
{
    json_release(&session->claims);
    buf_release(&session->text);
    free(session->user_id);
    session->user_id = NULL;
}
