/* SPDX-License-Identifier: MIT */
/*
 * message - a request that came in and the response that goes out, as plain data.
 *
 * Threads    a message belongs to the HTTP thread that serves it.
 * Ownership  everything in a request is borrowed and lives until the callback returns. The
 *            response is the server's: the callback fills it, the server releases it.
 * Not here   how they travel (server.h, client.h).
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include "base/buf.h"

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

struct gate_conn;
struct http_later;
struct http_server;

enum {
    HTTP_HEADERS_MAX = 64,
    HTTP_RESPONSE_MAX_BYTES = 16 * 1024 * 1024,
    HTTP_TYPE_MAX = 128, /* a content type, with the '\0' */
};

struct http_header {
    const char *name; /* as it was sent */
    const char *value;
};

struct http_request {
    const char *method; /* as sent: "POST" */
    const char *path;   /* as sent, not decoded, without the query: compare it with strcmp */
    const char *query;  /* behind the '?', not decoded; NULL when there is none */
    const struct http_header *headers;
    size_t header_count;
    const char *body; /* raw bytes, a '\0' behind them; "" when there is none */
    size_t body_len;
    const char *remote_addr; /* the peer's address without its port */
};

struct http_response {
    int status;                   /* starts as 200 */
    const char *content_type;     /* static or borrowed until the callback returns; NULL: JSON;
                                 "": none, for a response with nothing in it */
    char own_type[HTTP_TYPE_MAX]; /* one that was made up, by http_response_set_type; "": there is
                                     none. It goes before content_type */
    struct buf body;    /* isn't sent in the answer to a HEAD, nor with the statuses 204 and 304 */
    struct buf headers; /* further header lines, each ended by "\r\n"; usually empty */
    struct http_later *later; /* NULL: this is the answer */
};

/*
 * An answer that isn't there yet when the callback returns: no thread waits for it. The callback sets
 * response->later (and need set nothing else), and keeps nothing of the request but its body, which
 * stays until finish returns. Then
 *
 *     begin    is called on the same thread, once nobody else has the request: hand it on to whoever
 *              makes the answer. That one calls http_answer(later) (server.h), once. Where the thread is
 *              going to wait for the answer (is_waited_for), it may as well make it.
 *     finish   is called on any HTTP thread after that: fill the response, and release what later is
 *              part of.
 *
 * It belongs to the callback until it returns, then to the server. The answer should be a small one.
 */
struct http_later {
    void (*begin)(struct http_later *later, bool is_waited_for);
    void (*finish)(struct http_later *later, struct http_response *response);

    /* the server's own */
    struct http_server *server;
    struct gate_conn *conn;
    sem_t *waiter; /* of the worker that waits for it; NULL: none does */
    bool is_head, may_keep;
    char behind; /* what stood where the body's '\0' is */
    struct http_later *next;
};

/* Why a request isn't served: because of its framing (rules.h), or since there is no room. Static. */
struct http_refusal {
    int status;
    const char *code;
    const char *message;
};

/* The value of the header, whatever the case of its name; NULL when it is missing. */
const char *http_request_header(const struct http_request *request, const char *name);

/* How many headers have that name. */
size_t http_request_header_count(const struct http_request *request, const char *name);

/*
 * Make the response an error of the one form that we have:
 * {"error":{"code":"signature_mismatch","message":"…"}}. What was in the body is forgotten.
 */
void http_response_error(struct http_response *response, int status, const char *code,
                         const char *message);

/* Add "name: value\r\n". A value with a control character in it is refused: returns ERR_INVALID. */
int http_response_header(struct http_response *response, const char *name, const char *value)
    MUST_CHECK;

/* The same for a value of our own, which can fail for lack of memory only: then the server answers 500. */
void http_response_put_header(struct http_response *response, const char *name, const char *value);

/* Errors that many have: 405 with the methods that the path takes, and 503 with "come again in a second". */
void http_response_wrong_method(struct http_response *response, const char *allowed);
void http_response_unavailable(struct http_response *response, const char *code,
                               const char *message);

/* The value of the header that was added first under that name, cut at size - 1 bytes; false when there
 * is none. */
bool http_response_find_header(const struct http_response *response, const char *name, char *out,
                               size_t size);
bool http_response_has_header(const struct http_response *response, const char *name);

/* Copy a content type. ERR_INVALID: empty, or with a control character; ERR_LIMIT: too long. */
int http_response_set_type(struct http_response *response, const char *type) MUST_CHECK;

/* What the Content-Type header is to say; NULL: there is to be none. */
const char *http_response_type(const struct http_response *response);

/* Whether an answer of that status has a body, and so a Content-Type and a Content-Length. */
bool http_status_has_body(int status);

/* Whether name may be a header's name at all. */
bool http_is_token(const char *name);

#endif
