/* SPDX-License-Identifier: MIT */
/*
 * json - a JSON text read once, strictly, into a flat list of nodes.
 *
 * Nodes stand in the order of the text. Node 0 is the document. A container is followed by what is
 * in it: an object by key, value, key, value …, an array by its values; `next` of a node is the
 * index behind all that belongs to it. Every node knows its bytes in the text, so that a part can
 * be kept exactly as it came, and nothing is copied until somebody asks for a string.
 *
 *     {"a":[1,2],"b":"x"}   0 object next 7      1 "a"  2 array next 5  3 1  4 2  5 "b"  6 "x"
 *
 * Strict is: RFC 8259, valid UTF-8, no bytes behind the document, no control characters in strings.
 * Lenient is, since JSON.parse is: a repeated member (the last one counts), any size of number, a
 * lone surrogate escape. That one and \u0000, which SQL's texts can't hold, are read as U+FFFD: what
 * strangers put into their names must not make anything fail.
 *
 * A reader of our own, because lua-cjson turns every number into a float (ids above 2^53 change),
 * cannot tell [] from {}, takes invalid UTF-8, stops at a NUL and knows no byte ranges.
 *
 * Threads    a struct json belongs to one thread; the nodes are reused from text to text.
 * Ownership  the text is borrowed: it must outlive the nodes. json_release frees the nodes.
 * Errors     ERR_INVALID says what was expected at which line and column; ERR_NOMEM.
 * Limits     JSON_DEPTH_MAX levels; texts below 4 GiB.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_DEPTH_MAX = 1000 };

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_node {
    uint8_t type;
    bool escaped;   /* a string with a '\' in it */
    uint32_t start; /* first byte in the text; of a string, behind its quote */
    uint32_t len;   /* bytes; of a string, without its quotes */
    uint32_t count; /* values in an array, members in an object */
    uint32_t next;
};

struct json {
    const char *text;
    struct json_node *nodes;
    uint32_t count;
    uint32_t capacity;
};

/* The number that "no such member" is: never a member, since node 0 is the document. */
enum { JSON_ABSENT = 0 };

int json_read(struct json *json, const char *text, size_t len, struct err *err) MUST_CHECK;
void json_release(struct json *json);

/* The value of the object's member (the last one of that name), or JSON_ABSENT; also JSON_ABSENT
 * when the node isn't an object. */
uint32_t json_member(const struct json *json, uint32_t object, const char *name);

/* The same, but JSON_ABSENT when the value isn't a string. */
uint32_t json_string_member(const struct json *json, uint32_t object, const char *name);

/* Write the string's characters to out (never more than node->len bytes); returns how many. */
size_t json_decode(const struct json *json, uint32_t string, char *out);

/* A number that is whole and fits, as WorkOS's own language sees it: 1, 1.0 and 1e3 are whole. */
bool json_to_int(const struct json *json, uint32_t number, int64_t *out);
double json_to_real(const struct json *json, uint32_t number);

/* The bytes of a value as they stand in the text (of a string with its quotes). */
const char *json_raw(const struct json *json, uint32_t node, size_t *out_len);

/* True when the string node is exactly these characters. */
bool json_equals(const struct json *json, uint32_t string, const char *text);

#endif
