/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int read_bytes(struct json *json, const char *text, size_t len, struct err *err)
{
    return json_read(json, text, len, err);
}

static void accepts(const char *text)
{
    struct json json = {0};
    struct err err;

    if (read_bytes(&json, text, strlen(text), &err) < 0)
        fail_msg("%s: %s", text, err.text);
    json_release(&json);
}

static void refuses(const char *text, size_t len)
{
    struct json json = {0};
    char *exact = malloc(len ? len : 1); /* a sanitizer sees what is read behind it */
    struct err err;

    memcpy(exact, text, len);
    if (read_bytes(&json, exact, len, &err) != ERR_INVALID)
        fail_msg("taken: %.*s", (int)len, text);
    json_release(&json);
    free(exact);
}

static void json__what_is_allowed(void **state)
{
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "-1.5",
        "1e3",
        "1E+3",
        "1e-3",
        "0.0",
        "0e0",
        "\"\"",
        "\"a\"",
        "[]",
        "{}",
        "[1]",
        "[1,2]",
        "[[],{}]",
        "{\"a\":1}",
        "{\"\":1}",
        "{\"a\":1,\"a\":2}",
        " [ 1 , 2 ] ",
        "\t\r\n {\"a\"\n:\n1\n}\n",
        "\"\\u0000\"",
        "\"\x7f\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uABCD\"",
        "\"\\ud800\"",
        "\"\u00e9\U0001F600\u2028\"",
        "123456789012345678901234567890",
        "1e999999",
        "\"\xEF\xBF\xBF\"",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        accepts(texts[i]);
}

static void json__what_is_forbidden(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "undefined",
        "+1",
        ".5",
        "1.",
        "-",
        "--1",
        "-a",
        "01",
        "-01",
        "1e",
        "1e+",
        "1.e3",
        "0x10",
        "1_000",
        "1 2",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{1:2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "{\"a\"}",
        "{\"a\":1]",
        "'a'",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\",
        "\"\\x41\"",
        "\"\\u\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\U0041\"",
        "\"\\u 123\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"\x01\"",
        "\"\x1f\"",
        "// a\n1",
        "/* a */ 1",
        "1 // a",
        "[1]]",
        "{}{}",
        "null,",
        "\xEF\xBB\xBF"
        "1",
        "\"\xff\"",
        "\"\x80\"",
        "\"\xc0\x80\"",
        "\"\xc3\"",
        "\"\xe2\x82\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xf8\x88\x80\x80\x80\"",
        "\xc3\xa9",
        "\f1",
        "\v1",
        "\xc2\xa0"
        "1",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        refuses(texts[i], strlen(texts[i]));
    refuses("1\0", 2);
    refuses("\0", 1);
    refuses("\"a\0b\"", 5);
    refuses("{}\0", 3);
}

/* The reader looks at eight bytes at once: none may be missed at any place among them. */
static void json__every_byte_counts_wherever_it_stands(void **state)
{
    enum { LEN = 20 };

    (void)state;
    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < LEN; at++) {
            char text[] = "\"xxxxxxxxxxxxxxxxxxxx\"   ";

            text[1 + at] = (char)c;
            if (c >= ' ' && c < 0x80 && c != '"' && c != '\\')
                accepts(text);
            else
                refuses(text, strlen("\"\"") + LEN);
        }
    }
}

static void json__strings_end_at_their_quote(void **state)
{
    struct json json = {0};
    struct err err;

    (void)state;
    for (size_t len = 0; len < 40; len++) {
        char text[64] = "[\"";

        memset(text + 2, 'x', len);
        strcpy(text + 2 + len, "\",\"y\"]");
        assert_int_equal(json_read(&json, text, strlen(text), &err), 0);
        assert_int_equal(json.nodes[1].len, len);
        assert_true(json_equals(&json, 2, "y"));
    }
    json_release(&json);
}

static void json__cut_anywhere_is_refused(void **state)
{
    const char *text = "{\"a\":[1.5e3,true,null,{\"b\":\"\\u00e9\\n\u00e9\"}],\"c\":\"d\"}";

    (void)state;
    accepts(text);
    for (size_t len = 0; len < strlen(text); len++)
        refuses(text, len);
}

static void json__nodes_are_flat(void **state)
{
    const char *text = "{\"a\":[1,2],\"b\":\"x\"}";
    struct json json = {0};

    (void)state;
    assert_int_equal(json_read(&json, text, strlen(text), NULL), 0);
    assert_int_equal(json.count, 7);
    assert_int_equal(json.nodes[0].next, 7);
    assert_int_equal(json.nodes[0].count, 2);
    assert_int_equal(json.nodes[2].type, JSON_ARRAY);
    assert_int_equal(json.nodes[2].next, 5);
    assert_int_equal(json.nodes[2].count, 2);
    assert_int_equal(json.nodes[6].type, JSON_STRING);
    json_release(&json);
    json_release(&json);
}

static void json__last_member_of_a_name_wins(void **state)
{
    const char *text =
        "{\"a\":1,\"b\":{\"a\":2},\"\\u0061\":\"x\",\"a\\u0000\":4,\"\":5,\"c\":null}";
    struct json json = {0};
    uint32_t node;

    (void)state;
    assert_int_equal(json_read(&json, text, strlen(text), NULL), 0);
    node = json_member(&json, 0, "a");
    assert_int_equal(json.nodes[node].type, JSON_STRING);
    assert_int_equal(json_string_member(&json, 0, "a"), node);
    assert_int_equal(json_string_member(&json, 0, "b"), JSON_ABSENT);
    assert_int_equal(json_member(&json, 0, "d"), JSON_ABSENT);
    assert_int_equal(json_member(&json, node, "a"), JSON_ABSENT);
    assert_int_not_equal(json_member(&json, 0, ""), JSON_ABSENT);
    assert_int_equal(json.nodes[json_member(&json, 0, "c")].type, JSON_NULL);
    json_release(&json);
}

static void json__numbers(void **state)
{
    static const struct {
        const char *text;
        bool whole;
        int64_t integer;
        double real;
    } cases[] = {
        {"1", true, 1, 1},
        {"1.0", true, 1, 1},
        {"1e3", true, 1000, 1000},
        {"1.5e1", true, 15, 15},
        {"100e-2", true, 1, 1},
        {"0", true, 0, 0},
        {"-0", true, 0, 0},
        {"-0.0", true, 0, 0},
        {"1.5", false, 0, 1.5},
        {"9007199254740992", true, 9007199254740992, 9007199254740992.0},
        {"9007199254740993", true, 9007199254740993, 9007199254740992.0},
        {"9223372036854775807", true, INT64_MAX, 9223372036854775808.0},
        {"-9223372036854775808", true, INT64_MIN, -9223372036854775808.0},
        {"9223372036854775808", false, 0, 9223372036854775808.0},
        {"-9223372036854775809", false, 0, -9223372036854775808.0},
        {"12345678901234567890", false, 0, 12345678901234567890.0},
        {"1e300", false, 0, 1e300},
        {"1e400", false, 0, INFINITY},
        {"-1e400", false, 0, -INFINITY},
        {"1e-400", true, 0, 0},
        {"0.1000000000000000000000000000000000000000000000000000000000000000000000000000", false, 0,
         0.1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json json = {0};
        int64_t integer = -77;

        assert_int_equal(json_read(&json, cases[i].text, strlen(cases[i].text), NULL), 0);
        if (json_to_int(&json, 0, &integer) != cases[i].whole)
            fail_msg("%s", cases[i].text);
        if (cases[i].whole)
            assert_true(integer == cases[i].integer);
        else
            assert_true(integer == -77);
        assert_true(json_to_real(&json, 0) == cases[i].real);
        json_release(&json);
    }
}

/* What stands behind a number in the text isn't part of it. */
static void json__number_ends_where_it_ends(void **state)
{
    const char *text = "[1,2e1 ,3]5";
    struct json json = {0};
    int64_t integer;

    (void)state;
    assert_int_equal(json_read(&json, text, strlen(text) - 1, NULL), 0);
    assert_true(json_to_int(&json, 1, &integer) && integer == 1);
    assert_true(json_to_int(&json, 2, &integer) && integer == 20);
    assert_true(json_to_real(&json, 3) == 3);
    json_release(&json);
}

static void json__escapes(void **state)
{
    static const struct {
        const char *text, *wanted;
        size_t len;
    } cases[] = {
        {"\"\"", "", 0},
        {"\"plain \u00e9\"", "plain \u00e9", 8},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\u00e9\u20ac", 6},
        {"\"\\ud83d\\ude00\"", "\U0001F600", 4},
        {"\"\\uD83D\\uDE00\"", "\U0001F600", 4},
        {"\"\\ud83d\"", "\uFFFD", 3},
        {"\"\\ude00\"", "\uFFFD", 3},
        {"\"\\ude00\\ud83d\"", "\uFFFD\uFFFD", 6},
        {"\"\\ud83d\\ud83d\\ude00\"", "\uFFFD\U0001F600", 7},
        {"\"\\ud83dx\"", "\uFFFDx", 4},
        {"\"\\ud83d\\n\"", "\uFFFD\n", 4},
        {"\"\\ud83d\\u0041\"",
         "\uFFFD"
         "A",
         4},
        {"\"a\\u0000b\"",
         "a\uFFFD"
         "b",
         5}, /* SQL's texts can't hold it */
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json json = {0};

        assert_int_equal(json_read(&json, cases[i].text, strlen(cases[i].text), NULL), 0);
        if (json_decode(&json, 0, out) != cases[i].len ||
            memcmp(out, cases[i].wanted, cases[i].len) != 0)
            fail_msg("%s", cases[i].text);
        json_release(&json);
    }
}

static void json__equals(void **state)
{
    const char *text = "[\"abc\",\"\\u0061bc\",\"a\\u0000\",\"\",\"\\u00e9\"]";
    struct json json = {0};

    (void)state;
    assert_int_equal(json_read(&json, text, strlen(text), NULL), 0);
    assert_true(json_equals(&json, 1, "abc") && json_equals(&json, 2, "abc"));
    assert_false(json_equals(&json, 1, "ab") || json_equals(&json, 1, "abcd"));
    assert_false(json_equals(&json, 3, "a"));
    assert_true(json_equals(&json, 4, ""));
    assert_true(json_equals(&json, 5, "\u00e9"));
    json_release(&json);
}

static void json__deep_texts(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1) + 1];
    struct json json = {0};
    struct err err;

    (void)state;
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_int_equal(json_read(&json, text, 2 * JSON_DEPTH_MAX, &err), 0);
    assert_int_equal(json.count, JSON_DEPTH_MAX);
    assert_int_equal(json.nodes[0].next, JSON_DEPTH_MAX);
    assert_int_equal(json.nodes[JSON_DEPTH_MAX - 1].next, JSON_DEPTH_MAX);
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_int_equal(json_read(&json, text, 2 * (JSON_DEPTH_MAX + 1), &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "more than 1000 levels at line 1, column 1001"));
    json_release(&json);
}

static void json__raw_is_byte_for_byte(void **state)
{
    const char *text = " { \"a\" : [ 1.50 , \"\\u00e9\" ] , \"b\":{ } } ";
    static const char *const raw[] = {
        "{ \"a\" : [ 1.50 , \"\\u00e9\" ] , \"b\":{ } }",
        "\"a\"",
        "[ 1.50 , \"\\u00e9\" ]",
        "1.50",
        "\"\\u00e9\"",
        "\"b\"",
        "{ }",
    };
    struct json json = {0};

    (void)state;
    assert_int_equal(json_read(&json, text, strlen(text), NULL), 0);
    assert_int_equal(json.count, ARRAY_LEN(raw));
    for (uint32_t i = 0; i < json.count; i++) {
        size_t len;
        const char *found = json_raw(&json, i, &len);

        assert_int_equal(len, strlen(raw[i]));
        assert_memory_equal(found, raw[i], len);
    }
    json_release(&json);
}

static void json__errors_say_where(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", "not valid JSON: an end too early at line 1, column 1"},
        {"{\n  \"a\": x\n}", "something that is no value at line 2, column 8"},
        {"{\"a\" 1}", "a member's name without ':' at line 1, column 6"},
        {"[1,\n2\n3]", "neither ',' nor ']' behind a value at line 3, column 1"},
        {"{\"a\":1 x", "neither ',' nor '}' behind a member at line 1, column 8"},
        {"{x", "a member without a name at line 1, column 2"},
        {"[1] x", "something behind the end at line 1, column 5"},
        {"\"\\x\"", "an unknown escape at line 1, column 2"},
        {"\"\\u1\"", "\\u without four hex digits at line 1, column 2"},
        {"\"ab", "a string that doesn't end at line 1, column 4"},
        {"\"\n\"", "a control character in a string at line 1, column 2"},
        {"\"\xff\"", "a byte that isn't UTF-8 at line 1, column 2"},
        {"1.", "a number without digits behind its point at line 1, column 3"},
        {"1e", "a number without digits in its exponent at line 1, column 3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json json = {0};
        struct err err;

        assert_int_equal(json_read(&json, cases[i].text, strlen(cases[i].text), &err), ERR_INVALID);
        if (!strstr(err.text, cases[i].wanted))
            fail_msg("no \"%s\" in \"%s\"", cases[i].wanted, err.text);
        json_release(&json);
    }
}

static void json__nodes_are_reused(void **state)
{
    struct json json = {0};

    (void)state;
    assert_int_equal(json_read(&json, "[1,2,3]", 7, NULL), 0);
    assert_int_equal(json_read(&json, "{", 1, NULL), ERR_INVALID);
    assert_int_equal(json_read(&json, "5", 1, NULL), 0);
    assert_int_equal(json.count, 1);
    assert_int_equal(json.nodes[0].type, JSON_NUMBER);
    json_release(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json__what_is_allowed),
        cmocka_unit_test(json__what_is_forbidden),
        cmocka_unit_test(json__every_byte_counts_wherever_it_stands),
        cmocka_unit_test(json__strings_end_at_their_quote),
        cmocka_unit_test(json__cut_anywhere_is_refused),
        cmocka_unit_test(json__nodes_are_flat),
        cmocka_unit_test(json__last_member_of_a_name_wins),
        cmocka_unit_test(json__numbers),
        cmocka_unit_test(json__number_ends_where_it_ends),
        cmocka_unit_test(json__escapes),
        cmocka_unit_test(json__equals),
        cmocka_unit_test(json__deep_texts),
        cmocka_unit_test(json__raw_is_byte_for_byte),
        cmocka_unit_test(json__errors_say_where),
        cmocka_unit_test(json__nodes_are_reused),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
