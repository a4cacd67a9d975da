/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include "base/text.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * The reader goes over the text once, without recursion. While a container is open, its node's
 * `next` holds the index of the container around it; closing it puts the real value there.
 *
 *   VALUE      a value must come          -> AFTER, or KEY_OR_END / VALUE_OR_END in a container
 *   KEY        a member's name must come  -> VALUE (the colon is taken with the name)
 *   AFTER      ',' or the container's end -> KEY / VALUE, or AFTER of the container around it
 */
enum expect { EXPECT_VALUE, EXPECT_VALUE_OR_END, EXPECT_KEY, EXPECT_KEY_OR_END, EXPECT_AFTER };

struct reader {
    struct json *json;
    const char *at, *end;
    uint32_t open; /* the innermost open container; meaningless at depth 0 */
    int depth;
    struct err *err;
};

static int fail(struct reader *r, const char *what)
{
    size_t line = 1, column = 1;

    for (const char *p = r->json->text; p < r->at; p++) {
        column++;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    return err_set(r->err, ERR_INVALID, "not valid JSON: %s at line %zu, column %zu", what, line,
                   column);
}

static int add_node(struct reader *r, enum json_type type, const char *start, size_t len)
{
    struct json *json = r->json;

    if (json->count == json->capacity) {
        uint32_t capacity = json->capacity ? json->capacity * 2 : 64;
        struct json_node *nodes = realloc(json->nodes, capacity * sizeof(*nodes));

        if (!nodes)
            return err_set(r->err, ERR_NOMEM, "no memory for a JSON text");
        json->nodes = nodes;
        json->capacity = capacity;
    }
    json->nodes[json->count] = (struct json_node){
        .type = (uint8_t)type,
        .start = (uint32_t)(start - json->text),
        .len = (uint32_t)len,
        .next = json->count + 1,
    };
    json->count++;
    return 0;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool is_hex4(const char *s)
{
    for (int i = 0; i < 4; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f') ||
              (s[i] >= 'A' && s[i] <= 'F')))
            return false;
    return true;
}

static int skip_escape(struct reader *r)
{
    if (r->end - r->at < 2)
        return fail(r, "a string that doesn't end");
    if (r->at[1] == 'u') {
        if (r->end - r->at < 6 || !is_hex4(r->at + 2))
            return fail(r, "\\u without four hex digits");
        r->at += 6;
        return 0;
    }
    if (!memchr("\"\\/bfnrt", r->at[1], 8))
        return fail(r, "an unknown escape");
    r->at += 2;
    return 0;
}

/*
 * At the next character that needs a look of its own: a quote, a backslash, a control, a byte that
 * isn't ASCII; at the latest eight bytes before the end. Eight at a time: where no byte has its high
 * bit set, subtracting c sets that of the bytes below c, and maybe of some behind the first of them.
 */
static const char *skip_plain(const char *at, const char *end)
{
    const uint64_t ones = 0x0101010101010101;

    while (end - at >= 8) {
        uint64_t x, quote, backslash, found;

        memcpy(&x, at, 8);
        x = le64toh(x);
        quote = x ^ ones * '"';
        backslash = x ^ ones * '\\';
        found = (x | (x - ones * ' ') | (quote - ones) | (backslash - ones)) & ones << 7;
        if (found)
            return at + __builtin_ctzll(found) / 8;
        at += 8;
    }
    return at;
}

static int read_string(struct reader *r)
{
    const char *start = ++r->at;
    bool escaped = false;
    int rc;

    for (;;) {
        unsigned char c;

        r->at = skip_plain(r->at, r->end);
        if (r->at == r->end)
            return fail(r, "a string that doesn't end");
        c = (unsigned char)*r->at;
        if (c == '"')
            break;
        if (c == '\\') {
            escaped = true;
            rc = skip_escape(r);
            if (rc < 0)
                return rc;
        } else if (c < 0x20) {
            return fail(r, "a control character in a string");
        } else if (c < 0x80) {
            r->at++;
        } else {
            size_t size = text_utf8_size(r->at, (size_t)(r->end - r->at));

            if (size == 0)
                return fail(r, "a byte that isn't UTF-8");
            r->at += size;
        }
    }
    rc = add_node(r, JSON_STRING, start, (size_t)(r->at - start));
    if (rc < 0)
        return rc;
    r->json->nodes[r->json->count - 1].escaped = escaped;
    r->at++;
    return 0;
}

static bool skip_digits(struct reader *r)
{
    const char *start = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start;
}

static int read_number(struct reader *r)
{
    const char *start = r->at;

    if (*r->at == '-')
        r->at++;
    if (r->at < r->end && *r->at == '0')
        r->at++;
    else if (!skip_digits(r))
        return fail(r, "something that is no value");
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!skip_digits(r))
            return fail(r, "a number without digits behind its point");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!skip_digits(r))
            return fail(r, "a number without digits in its exponent");
    }
    return add_node(r, JSON_NUMBER, start, (size_t)(r->at - start));
}

static int read_word(struct reader *r, const char *word, enum json_type type)
{
    size_t len = strlen(word);
    const char *start = r->at;

    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return fail(r, "something that is no value");
    r->at += len;
    return add_node(r, type, start, len);
}

static int open_container(struct reader *r, enum json_type type)
{
    uint32_t around = r->open;
    int rc;

    if (r->depth == JSON_DEPTH_MAX)
        return fail(r, "more than 1000 levels");
    rc = add_node(r, type, r->at, 0);
    if (rc < 0)
        return rc;
    r->open = r->json->count - 1;
    r->json->nodes[r->open].next = around;
    r->depth++;
    r->at++;
    return 0;
}

static void close_container(struct reader *r)
{
    struct json_node *node = &r->json->nodes[r->open];

    r->at++;
    r->open = node->next;
    r->depth--;
    node->next = r->json->count;
    node->len = (uint32_t)(r->at - r->json->text) - node->start;
}

static bool in_object(const struct reader *r)
{
    return r->json->nodes[r->open].type == JSON_OBJECT;
}

/* Reads one value, or opens a container; *expect says what must come then. */
static int read_value(struct reader *r, enum expect *expect)
{
    *expect = EXPECT_AFTER;
    switch (*r->at) {
    case '{':
        *expect = EXPECT_KEY_OR_END;
        return open_container(r, JSON_OBJECT);
    case '[':
        *expect = EXPECT_VALUE_OR_END;
        return open_container(r, JSON_ARRAY);
    case '"':
        return read_string(r);
    case 't':
        return read_word(r, "true", JSON_TRUE);
    case 'f':
        return read_word(r, "false", JSON_FALSE);
    case 'n':
        return read_word(r, "null", JSON_NULL);
    default:
        return read_number(r);
    }
}

static int read_key(struct reader *r)
{
    int rc;

    if (*r->at != '"')
        return fail(r, "a member without a name");
    rc = read_string(r);
    if (rc < 0)
        return rc;
    skip_space(r);
    if (r->at == r->end || *r->at != ':')
        return fail(r, "a member's name without ':'");
    r->at++;
    return 0;
}

static int read_after(struct reader *r, enum expect *expect)
{
    if (*r->at == ',') {
        r->at++;
        *expect = in_object(r) ? EXPECT_KEY : EXPECT_VALUE;
        return 0;
    }
    if (*r->at != (in_object(r) ? '}' : ']'))
        return fail(r, in_object(r) ? "neither ',' nor '}' behind a member"
                                    : "neither ',' nor ']' behind a value");
    close_container(r);
    return 0;
}

static int read_step(struct reader *r, enum expect *expect)
{
    switch (*expect) {
    case EXPECT_KEY_OR_END:
    case EXPECT_VALUE_OR_END:
        if (*r->at == (in_object(r) ? '}' : ']')) {
            close_container(r);
            *expect = EXPECT_AFTER;
            return 0;
        }
        *expect = *expect == EXPECT_KEY_OR_END ? EXPECT_KEY : EXPECT_VALUE;
        return 0;
    case EXPECT_KEY:
        r->json->nodes[r->open].count++;
        *expect = EXPECT_VALUE;
        return read_key(r);
    case EXPECT_VALUE:
        if (r->depth > 0 && !in_object(r))
            r->json->nodes[r->open].count++;
        return read_value(r, expect);
    case EXPECT_AFTER:
        break;
    }
    return read_after(r, expect);
}

int json_read(struct json *json, const char *text, size_t len, struct err *err)
{
    struct reader r = {.json = json, .at = text, .end = text + len, .err = err};
    enum expect expect = EXPECT_VALUE;
    int rc;

    json->text = text;
    json->count = 0;
    if (len >= UINT32_MAX)
        return err_set(err, ERR_INVALID, "a JSON text of %zu bytes is too long", len);
    for (;;) {
        skip_space(&r);
        if (expect == EXPECT_AFTER && r.depth == 0)
            break;
        if (r.at == r.end)
            return fail(&r, "an end too early");
        rc = read_step(&r, &expect);
        if (rc < 0)
            return rc;
    }
    return r.at == r.end ? 0 : fail(&r, "something behind the end");
}

void json_release(struct json *json)
{
    free(json->nodes);
    *json = (struct json){0};
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static uint32_t hex4(const char *s)
{
    return hex_digit(s[0]) << 12 | hex_digit(s[1]) << 8 | hex_digit(s[2]) << 4 | hex_digit(s[3]);
}

/* A \u escape, or two that make a surrogate pair, at s (before end): returns the bytes read. */
static size_t decode_unicode(const char *s, const char *end, uint32_t *out)
{
    uint32_t high = hex4(s + 2), low;

    *out = high;
    if (high < 0xD800 || high > 0xDBFF || end - s < 12 || s[6] != '\\' || s[7] != 'u')
        return 6;
    low = hex4(s + 8);
    if (low < 0xDC00 || low > 0xDFFF)
        return 6;
    *out = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

static char decode_short(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c;
    }
}

size_t json_decode(const struct json *json, uint32_t string, char *out)
{
    const struct json_node *node = &json->nodes[string];
    const char *at = json->text + node->start, *end = at + node->len;
    char *to = out;

    if (!node->escaped) {
        memcpy(out, at, node->len);
        return node->len;
    }
    while (at < end) {
        uint32_t code_point;

        if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] == 'u') {
            at += decode_unicode(at, end, &code_point);
            if (code_point == 0)
                code_point = 0xFFFD;
            to += text_put_utf8(to, code_point);
        } else {
            *to++ = decode_short(at[1]);
            at += 2;
        }
    }
    return (size_t)(to - out);
}

bool json_equals(const struct json *json, uint32_t string, const char *text)
{
    const struct json_node *node = &json->nodes[string];
    size_t len = strlen(text);
    char small[256], *decoded;
    bool same;

    if (!node->escaped)
        return node->len == len && memcmp(json->text + node->start, text, len) == 0;
    if (node->len < len || node->len > len * 6)
        return false; /* an escape is at most six times as long as its character */
    decoded = node->len <= sizeof(small) ? small : malloc(node->len);
    if (!decoded)
        return false;
    same = json_decode(json, string, decoded) == len && memcmp(decoded, text, len) == 0;
    if (decoded != small)
        free(decoded);
    return same;
}

uint32_t json_member(const struct json *json, uint32_t object, const char *name)
{
    const struct json_node *nodes = json->nodes;
    uint32_t found = JSON_ABSENT;

    if (nodes[object].type != JSON_OBJECT)
        return JSON_ABSENT;
    for (uint32_t key = object + 1; key < nodes[object].next; key = nodes[key + 1].next)
        if (json_equals(json, key, name))
            found = key + 1;
    return found;
}

uint32_t json_string_member(const struct json *json, uint32_t object, const char *name)
{
    uint32_t value = json_member(json, object, name);

    return value && json->nodes[value].type == JSON_STRING ? value : JSON_ABSENT;
}

/* The number's own characters as a C string: strtod must not read on into the text behind it. */
static const char *number_text(const struct json *json, uint32_t number, char small[64],
                               char **out_large)
{
    const struct json_node *node = &json->nodes[number];
    char *copy = small;

    *out_large = NULL;
    if (node->len >= 64) {
        copy = *out_large = malloc(node->len + 1);
        if (!copy)
            return "0";
    }
    memcpy(copy, json->text + node->start, node->len);
    copy[node->len] = '\0';
    return copy;
}

double json_to_real(const struct json *json, uint32_t number)
{
    char small[64], *large;
    double value = strtod(number_text(json, number, small, &large), NULL);

    free(large);
    return value;
}

bool json_to_int(const struct json *json, uint32_t number, int64_t *out)
{
    const struct json_node *node = &json->nodes[number];
    const char *text = json->text + node->start;
    bool negative = text[0] == '-';
    const double whole_limit = 9007199254740992.0; /* 2^53: above it a double skips integers */
    uint64_t magnitude;
    double real;

    if (text_to_u64(text + negative, node->len - negative, (uint64_t)INT64_MAX + negative,
                    &magnitude)) {
        *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
        return true;
    }
    real = json_to_real(json, number);
    if (real != floor(real) || fabs(real) > whole_limit ||
        (!memchr(text, '.', node->len) && !memchr(text, 'e', node->len) &&
         !memchr(text, 'E', node->len)))
        return false;
    *out = (int64_t)real;
    return true;
}

const char *json_raw(const struct json *json, uint32_t node, size_t *out_len)
{
    const struct json_node *n = &json->nodes[node];
    uint32_t quote = n->type == JSON_STRING;

    *out_len = n->len + 2 * quote;
    return json->text + n->start - quote;
}
