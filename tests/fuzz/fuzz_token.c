/* SPDX-License-Identifier: MIT */
/*
 * A token; behind "c:" the claims of one whose signature is taken for good, behind "h:" a whole
 * Authorization header.
 *
 * libFuzzer: -dict=tests/fuzz/token.dict
 */
#include "auth/auth.h"
#include "auth/token.h"

#include "base/base64.h"
#include "base/log.h"
#include "base/text.h"
#include "fuzz/scratch.h"
#include "unit/auth/jwt.h"

#include <assert.h>

#define NOW_MS 1768249067677
#define ISSUERS "https://api.workos.com,https://api.workos.com/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The private key of these was thrown away: nobody makes another token that is good. */
static const char jwks[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k1\",\"n\":\"ubWkNQAfnX_"
    "8M7oQY8kZ3G55Mq0fcgwnEKd6ZEbnkujL2p"
    "k-Cz3su90n6htJSUJX9ekeGc2P-maEcHEeM_kStbvPMGe2Q5VIjyCC1ejhNwgGSfyezQug7rR4GYKYgSKFFY"
    "L6Fw_hO4GUYcZRG6HTxDMF5bbFinBza6wBXBszYt7VQz_vKlwBp7EXgXpanSYaQYNInPlQRqW7HFaTh9Kurs"
    "eqLanc1kERJt1HLDdCWzuOL9RMCSeWLcFXEbZ3buPDKnE7EkVsgKTyGhKD-UWT5QC3xoalG_t1pZhzes26HP"
    "ljgaCO3uyOQbDgpF0O58pnW80qAwOfzyr-g7HLkqE04Q\",\"e\":\"AQAB\"}]}";

static const char good[] =
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2FwaS53b3Jrb3MuY29tIiwic3Vi"
    "IjoidXNlcl8xIiwiZXhwIjo0MTAyNDQ0ODAwfQ.dp4nV7xUNepI_WZr_x1IOHFR8bh5T_N1gIOE4dd4D8wT3"
    "oLsWW3dPjoDWSAlYPpaHAfJxKsfNynsLnwvN0ttFKC7xBDl73fTFRqS-w9TOEca3qofs8aexOES8yAsl2Oii"
    "nNqgFqzRULg3nExi-Xi7B_PsQOW0e_Hov9ebW10-BdEMJbUW9TYhOgpB9tQlWcU-9m0hcbCcxaDiGb48fePg"
    "DBeHSLR57cd_W9uILrsz0qXxagav-spUFkrBqSc_NsUEb6DtA7Owcd_WxoznHcgzbl_SJgB2DUNuXfvekbQj"
    "8e0c_NpBuUf9guJSaP07dIQyfaHf255UNnE4uK3hvyJfA";

static struct key_set *set;
static struct token_rules rules = {.client_id = "client_1"};
static struct auth *auth;

static void set_up(void)
{
    static int fd;
    char path[SCRATCH_PATH_MAX], url[SCRATCH_PATH_MAX + 8];
    struct auth_opts opts = {.jwks_url = url, .client_id = "client_1", .issuers = ISSUERS};
    struct err err;

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    scratch_file(&fd, (const uint8_t *)jwks, strlen(jwks), path);
    snprintf(url, sizeof(url), "file://%s", path);
    if (key_set_read(&set, jwks, strlen(jwks), &err) < 0 ||
        token_names_init(&rules.issuers, ISSUERS, &err) < 0 ||
        token_names_init(&rules.audiences, "client_1", &err) < 0 ||
        auth_start(&auth, &opts, &err) < 0)
        scratch_fail("the fuzzer's keys", &err);
}

/* What is base64url is the only text for its bytes. */
static void look_at_base64(const char *text, size_t len)
{
    struct buf again = BUF_INIT(SIZE_MAX / 2);
    char *bytes = malloc(base64url_size(len) + 1); /* one more: malloc(0) may be NULL */

    if (base64url_decode(text, len, bytes)) {
        jwt_put_base64(&again, bytes, base64url_size(len));
        assert(again.len == len && memcmp(buf_text(&again), text, len) == 0);
    }
    buf_release(&again);
    free(bytes);
}

static void run_token(const char *text, size_t len)
{
    struct token token;
    enum token_status status = token_open(&token, text, len);

    assert(status == TOKEN_OK || (status == TOKEN_MALFORMED && token.reason));
    if (status == TOKEN_OK && token_verify(&token, set) == TOKEN_OK)
        assert(len == strlen(good) && memcmp(text, good, len) == 0);
    token_release(&token);
    look_at_base64(text, len);
}

/* The claims, as token_verify leaves them behind. */
static enum token_status check_claims(struct token *token, const struct buf *part, int64_t now_ms)
{
    *token = (struct token){
        .claims_part = buf_text(part),
        .claims_part_len = part->len,
        .claims_text = BUF_INIT(TOKEN_MAX),
    };
    return token_check(token, &rules, now_ms);
}

static void run_claims(const char *claims, size_t len)
{
    struct buf part = BUF_INIT(TOKEN_MAX);
    struct token token;
    enum token_status status;

    jwt_put_base64(&part, claims, len);
    if (!buf_ok(&part)) {
        buf_release(&part);
        return;
    }
    status = check_claims(&token, &part, NOW_MS);
    assert(status == TOKEN_OK || token.reason);
    assert(status == TOKEN_OK || status == TOKEN_NOT_OURS || status == TOKEN_EXPIRED ||
           status == TOKEN_EARLY);
    if (status == TOKEN_OK) {
        assert(token.subject[0] && text_is_utf8(token.subject, strlen(token.subject)));
        assert(token.claims_text.len == len && memcmp(token.claims_text.data, claims, len) == 0);
    }
    token_release(&token);
    /* Whatever is good now won't be so for ever. */
    if (status == TOKEN_OK)
        assert(check_claims(&token, &part, INT64_MAX) == TOKEN_EXPIRED);
    token_release(&token);
    buf_release(&part);
}

static void run_header(const char *text, size_t len)
{
    char *header = malloc(len + 1);
    struct auth_session session;

    memcpy(header, text, len); /* not strndup, which looks for an end that isn't there */
    header[len] = '\0';
    auth_check(auth, header, &session);
    if (session.status == AUTH_OK)
        assert(strstr(header, good) && strcmp(session.user_id, "user_1") == 0);
    else
        assert(!session.user_id && session.code[0] && session.message[0]);
    auth_session_release(&session);
    free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1); /* so that a byte too far is seen */

    if (!set)
        set_up();
    memcpy(text, data, size);
    if (size >= 2 && memcmp(data, "c:", 2) == 0)
        run_claims(text + 2, size - 2);
    else if (size >= 2 && memcmp(data, "h:", 2) == 0)
        run_header(text + 2, size - 2);
    else
        run_token(text, size);
    free(text);
    return 0;
}
