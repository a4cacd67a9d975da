/* SPDX-License-Identifier: MIT */
/*
 * token - one access token: a signed JSON Web Token (RFC 7519, in RFC 7515's compact form).
 *
 * In three steps, each of which needs the one before it:
 *
 *    token_open        three parts, and a header with "alg" RS256 and a key's id
 *    token_verify      is the signature of one of the keys of that id?
 *    token_check       do the claims say that it is for us, and good now?
 *
 * Nothing that the claims say is looked at before the signature is found genuine, and of the header
 * nothing is believed but which of our own keys to try: "jwk", "jku", "x5u" and the like are ignored.
 *
 * Threads    a token belongs to one thread; rules may be shared by all.
 * Ownership  the text is borrowed until token_release; claims_text and claims may be taken (moved) after
 *            token_check.
 * Errors     a token that isn't good is a status, with a reason for the log; the caller of the server
 *            learns less than that. ERR_NOMEM is TOKEN_TROUBLE.
 * Limits     TOKEN_MAX bytes, a subject of TOKEN_SUBJECT_MAX bytes.
 */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include "auth/key_set.h"
#include "base/buf.h"
#include "base/json.h"
#include "crypto/rsa.h"

#include <stddef.h>
#include <stdint.h>

enum { TOKEN_MAX = 16384, TOKEN_SUBJECT_MAX = 255, TOKEN_LEEWAY_MS = 60000 };

enum token_status {
    TOKEN_OK,
    TOKEN_MALFORMED,   /* no token at all, or not one of the kind that we take */
    TOKEN_UNKNOWN_KEY, /* we have no key of that id */
    TOKEN_FORGED,      /* none of the keys of that id has signed it */
    TOKEN_NOT_OURS,    /* genuine, but the claims aren't for us, or can't be read */
    TOKEN_EXPIRED,     /* genuine, and was good once */
    TOKEN_EARLY,       /* genuine, and will be good */
    TOKEN_TROUBLE,     /* no memory */
};

/* Texts in a list, made of one with commas. */
struct token_names {
    char *text;
    const char **items;
    size_t count;
};

/* Blanks around a name, and names without a letter, don't count. NULL is an empty list. ERR_NOMEM. */
int token_names_init(struct token_names *out, const char *commas, struct err *err) MUST_CHECK;
void token_names_release(struct token_names *names);

struct token_rules {
    struct token_names issuers;   /* "iss" is one of them */
    struct token_names audiences; /* "aud", if there is one, is or has one of them */
    const char *client_id;        /* "client_id", if there is one, is that; NULL: any */
};

struct token {
    const char *text; /* borrowed */
    size_t signed_len;
    const char *claims_part;
    size_t claims_part_len;
    char key_id[KEY_ID_MAX + 1];
    unsigned char signature[RSA_BYTES_MAX];
    size_t signature_len;

    /* After token_check. */
    struct buf claims_text;
    struct json claims;
    char subject[TOKEN_SUBJECT_MAX + 1];

    /* When the status isn't TOKEN_OK. */
    const char *reason; /* static */
    const char *mend;   /* which option an operator has to look at, when it is that; NULL */
    const char *found;  /* the claim as it stands in claims_text, for the log; NULL */
    size_t found_len;
};

enum token_status token_open(struct token *out, const char *text, size_t len) MUST_CHECK;
enum token_status token_verify(struct token *token, const struct key_set *set) MUST_CHECK;
enum token_status token_check(struct token *token, const struct token_rules *rules, int64_t now_ms)
    MUST_CHECK;

/* Also after a step that failed. */
void token_release(struct token *token);

#endif
