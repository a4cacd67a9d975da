/* SPDX-License-Identifier: MIT */
#include "http/rules.h"

#include "base/text.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

const struct http_refusal http_bad_syntax = {400, "bad_request", "the request is not well-formed"};
const struct http_refusal http_bad_target = {400, "bad_request",
                                             "the request target must be a path"};
static const struct http_refusal bad_path = {400, "bad_request", "the path must not contain %00"};
static const struct http_refusal bad_host = {400, "bad_request",
                                             "exactly one Host header is needed"};
static const struct http_refusal bad_length = {400, "bad_request",
                                               "the Content-Length is not valid"};
static const struct http_refusal both_lengths = {
    400, "bad_request", "Content-Length and Transfer-Encoding exclude each other"};
static const struct http_refusal no_length = {411, "length_required", "a Content-Length is needed"};
static const struct http_refusal no_chunks = {
    411, "length_required", "chunked bodies are not taken; send a Content-Length"};
static const struct http_refusal body_large = {413, "body_too_large", "the body is too large"};
static const struct http_refusal no_expectation = {417, "expectation_failed",
                                                   "only 100-continue can be expected"};
const struct http_refusal http_headers_large = {431, "headers_too_large",
                                                "the headers are too large or too many"};
static const struct http_refusal no_encoding = {501, "not_implemented",
                                                "transfer encodings are not supported"};
const struct http_refusal http_unknown_method = {501, "not_implemented",
                                                 "no path here takes that method"};
const struct http_refusal http_busy = {503, "busy", "too much is going on; try again in a moment"};
const struct http_refusal http_answer_lost = {
    500, "internal",
    "the request was carried out, but there is no room for its answer: too much is going on"};
const struct http_refusal http_bad_version = {505, "version_not_supported",
                                              "only HTTP/1.0 and HTTP/1.1 are spoken here"};

/* Others come from browsers without a length when they have no body. */
static bool needs_length(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
}

static bool has_encoded_nul(const char *path)
{
    return strstr(path, "%00") != NULL;
}

/* How long the body is. Returns why the request can't be served, or NULL. */
static const struct http_refusal *check_length(const struct http_request *request,
                                               size_t max_body_bytes, size_t *out_len)
{
    const char *length = http_request_header(request, "Content-Length");
    const char *encoding = http_request_header(request, "Transfer-Encoding");
    uint64_t number;

    if (encoding && length)
        return &both_lengths;
    if (encoding)
        return strcasecmp(encoding, "chunked") == 0 ? &no_chunks : &no_encoding;
    *out_len = 0;
    if (!length)
        return needs_length(request->method) ? &no_length : NULL;
    if (http_request_header_count(request, "Content-Length") > 1 || *length == '\0' ||
        length[strspn(length, "0123456789")] != '\0')
        return &bad_length;
    if (!text_to_u64(length, strlen(length), max_body_bytes, &number))
        return &body_large;
    *out_len = (size_t)number;
    return NULL;
}

const struct http_refusal *http_check_headers(const struct http_request *request, bool is_1_1,
                                              size_t max_body_bytes, size_t *out_body_len)
{
    size_t hosts = http_request_header_count(request, "Host");
    const char *expect = http_request_header(request, "Expect");
    const struct http_refusal *refusal;

    if (hosts > 1 || (hosts == 0 && is_1_1))
        return &bad_host;
    refusal = check_length(request, max_body_bytes, out_body_len);
    if (refusal)
        return refusal;
    if (expect && is_1_1 &&
        (strcasecmp(expect, "100-continue") != 0 ||
         http_request_header_count(request, "Expect") > 1))
        return &no_expectation;
    return NULL;
}

const struct http_refusal *http_check_request(const struct http_request *request, bool is_1_1,
                                              size_t max_body_bytes, size_t *out_body_len)
{
    /* civetweb drops what comes behind the 64th header: then nothing is known of the rest. */
    if (request->header_count >= HTTP_HEADERS_MAX)
        return &http_headers_large;
    if (request->path[0] != '/')
        return &http_bad_target;
    if (has_encoded_nul(request->path))
        return &bad_path;
    return http_check_headers(request, is_1_1, max_body_bytes, out_body_len);
}

/* civetweb reads only the first Connection header, and in that keep-alive before close. */
bool http_asks_to_close(const struct http_request *request)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, "Connection") == 0 &&
            strcasestr(request->headers[i].value, "close"))
            return true;
    return false;
}
