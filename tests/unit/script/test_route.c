/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void read_must_fail(const char *name, const char *wanted)
{
    struct route route;
    struct err err = {0};

    assert_int_equal(route_read(&route, name, strlen(name), &err), ERR_INVALID);
    if (!strstr(err.text, wanted))
        fail_msg("no \"%s\" in \"%s\"", wanted, err.text);
}

/* The names are separated by newlines. */
static struct routes read_routes(const char *names)
{
    struct routes routes = {.items = calloc(64, sizeof(struct route))};
    struct err err = {0};

    while (*names) {
        size_t len = strcspn(names, "\n");
        char *name = strndup(names, len);

        assert_true(routes.count < 64);
        if (route_read(&routes.items[routes.count++], name, len, &err) < 0)
            fail_msg("%s", err.text);
        free(name);
        names += len + (names[len] == '\n');
    }
    routes_sort(&routes);
    return routes;
}

static void route__what_is_no_route_is_refused_by_name(void **state)
{
    static const struct {
        const char *name, *wanted;
    } cases[] = {
        {"", "isn't a route"},
        {"GET", "'GET' isn't a route; they look like \"GET /todos\""},
        {"/todos", "isn't a route"},
        {"GET todos", "isn't a route"},
        {"GET  /todos", "isn't a route"},
        {" /todos", "there are the methods"},
        {"get /todos", "'get /todos': there are the methods GET, HEAD"},
        {"FETCH /todos", "there are the methods"},
        {"GETS /todos", "there are the methods"},
        {"OPTIONS /todos", "--cors-origin"},
        {"GET /a b", "'GET /a b': a path has no spaces"},
        {"GET /a\n", "control characters"},
        {"GET /a\x7F", "control characters"},
        {"GET /a?b=c", "request.query"},
        {"GET /a*", "no '*'"},
        {"GET /*", "no '*'"},
        {"GET /%20", "write it decoded"},
        {"GET /a#b", "no '#'"},
        {"GET /\xFF", "UTF-8"},
        {"GET //", "a '//'"},
        {"GET //a", "a '//'"},
        {"GET /a//b", "'GET /a//b': a segment is empty"},
        {"GET /a//", "a '//'"},
        {"GET /:", "needs a name"},
        {"GET /:/a", "needs a name"},
        {"GET /:a-b", "a parameter is a whole segment"},
        {"GET /{a}", "a parameter is written with a colon"},
        {"GET /x/<int:a>", "a parameter is written with a colon"},
        {"GET /:a.json", "a parameter is a whole segment"},
        {"GET /:a:b", "a parameter is a whole segment"},
        {"GET /:\xC3\xA4", "a parameter is a whole segment"},
        {"GET /:a/b/:a", "the parameter :a is in it twice"},
        {"GET /1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3", "too many"},
    };
    struct route route;
    struct err err;
    char *name = malloc(ROUTE_NAME_MAX + 2);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        read_must_fail(cases[i].name, cases[i].wanted);
    memset(name, 'x', ROUTE_NAME_MAX + 1);
    memcpy(name, "GET /", 5);
    name[ROUTE_NAME_MAX + 1] = '\0';
    read_must_fail(name, "too long");
    free(name);
    assert_int_equal(route_read(&route, "GET /a\0b", 8, &err), ERR_INVALID);
}

static void route__what_is_one_is_taken(void **state)
{
    static const char names[] =
        "GET /\nHEAD /a\nPOST /a/\nPUT /:a\nPATCH /:a/:b/c\nDELETE /a:b/:_1\n"
        "GET /\xC3\xA4/a.json\nGET /.well-known/x\nGET /a/../b\n"
        "GET /1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2";
    struct routes routes = read_routes(names);

    (void)state;
    assert_int_equal(routes.count, 10);
    routes_release(&routes);
    routes_sort(&routes);
    assert_null(routes_find(&routes, "GET", "/"));
}

static void route__shape_is_what_two_routes_have_in_common(void **state)
{
    struct routes routes = read_routes("GET /a/:b/c/");
    struct buf shape = BUF_INIT(100);

    (void)state;
    route_put_shape(&routes.items[0], &shape);
    assert_string_equal(shape.data, "GET /a/:/c/");
    assert_null(route_static_path(&routes.items[0]));
    routes_release(&routes);
    routes = read_routes("GET /a/b");
    assert_string_equal(route_static_path(&routes.items[0]), "/a/b");
    routes_release(&routes);
    buf_release(&shape);
}

/* Declared in the worst order: what is found depends on the routes alone. */
static const char table[] = "GET /:x/:y/:z\n"
                            "GET /:x/b/:z\n"
                            "GET /a/:x/c\n"
                            "GET /a/:x/d\n"
                            "GET /a/b/:y\n"
                            "GET /a/b/x/:z\n"
                            "GET /a/b\n"
                            "GET /a/b/\n"
                            "GET /a/:x\n"
                            "GET /\n"
                            "GET /:x\n"
                            "GET /caf\xC3\xA9/a_b\n"
                            "HEAD /a/b\n"
                            "POST /a/:x\n"
                            "DELETE /a/:x\n"
                            "GET /files/:name/raw";

static void route__most_static_one_is_found(void **state)
{
    static const struct {
        const char *method, *path, *name;
    } cases[] = {
        {"GET", "/", "GET /"},
        {"GET", "/x", "GET /:x"},
        {"GET", "/a", "GET /:x"},
        {"GET", "/x/", NULL},
        {"GET", "//", NULL},
        {"GET", "", NULL},
        {"GET", "a/b", NULL},
        {"GET", "*", NULL},
        {"GET", "/a/b", "GET /a/b"},
        {"GET", "/a/b/", "GET /a/b/"},
        {"GET", "/a/c", "GET /a/:x"},
        {"GET", "/a/", NULL},
        {"GET", "/a//", NULL},
        {"GET", "/A/b", NULL},
        {"GET", "/a/b/c", "GET /a/b/:y"},   /* not /a/:x/c */
        {"GET", "/a/b/d", "GET /a/b/:y"},   /* not /a/:x/d */
        {"GET", "/a/x/c", "GET /a/:x/c"},   /* not /:x/:y/:z */
        {"GET", "/a/x/y", "GET /:x/:y/:z"}, /* back out of /a, where nothing fits in the end */
        {"GET", "/x/b/y", "GET /:x/b/:z"},
        {"GET", "/x/c/y", "GET /:x/:y/:z"},
        {"GET", "/a/b/x/y", "GET /a/b/x/:z"},
        {"GET", "/a/b/c/d", NULL},
        {"GET", "/a/b//", NULL},
        {"GET", "/a//c", NULL},
        {"GET", "/a/%62", "GET /a/b"}, /* compared decoded */
        {"GET", "/%61/%62/", "GET /a/b/"},
        {"GET", "/a%2Fb", "GET /:x"}, /* a slash that is no separator */
        {"GET", "/a/b%2Fc", "GET /a/:x"},
        {"GET", "/a/%2e%2E", "GET /a/:x"},
        {"GET", "/caf%C3%A9/a%5Fb", "GET /caf\xC3\xA9/a_b"},
        {"GET", "/caf\xC3\xA9/a+b", NULL}, /* '+' is itself in a path */
        {"GET", "/a/%", "GET /a/:x"},      /* fits nothing but a parameter */
        {"GET", "/%/b", NULL},
        {"GET", "/a/%zz/c", "GET /a/:x/c"},
        {"GET", "/a/b%00", "GET /a/:x"},
        {"HEAD", "/a/b", "HEAD /a/b"},
        {"HEAD", "/a/c", "GET /a/:x"},
        {"HEAD", "/q/w/e/r", NULL},
        {"POST", "/a/b", "POST /a/:x"},
        {"POST", "/a", NULL},
        {"DELETE", "/a/b", "DELETE /a/:x"},
        {"PUT", "/a/b", NULL},
        {"OPTIONS", "/a/b", NULL},
        {"get", "/a/b", NULL},
        {"", "/a/b", NULL},
        {"GET", "/files/a%2Fb/raw", "GET /files/:name/raw"},
        {"GET", "/files//raw", NULL},
    };
    struct routes routes = read_routes(table);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct route *found = routes_find(&routes, cases[i].method, cases[i].path);
        const char *name = cases[i].name;

        if (name ? !found || strcmp(found->name, name) != 0 : found != NULL)
            fail_msg("%s %s: %s", cases[i].method, cases[i].path, found ? found->name : "none");
    }
    assert_true(routes_have(&routes, ROUTE_POST, "/a/b"));
    assert_false(routes_have(&routes, ROUTE_HEAD, "/a/c"));
    routes_release(&routes);
}

/* Every route of up to three segments, and every path: what is found is what the words of route.h
 * say, looked for in the plainest way. */
static void route__found_is_the_one_that_a_plain_search_finds(void **state)
{
    static const char *const parts[] = {"/a", "/b", "/:x"}, *const given[] = {"/a", "/b", "/c"};
    struct routes routes = {.items = calloc(27, sizeof(struct route))};
    unsigned chosen = 12345;
    struct err err;

    (void)state;
    for (int round = 0; round < 300; round++) {
        char name[64];

        routes.count = 0;
        for (int i = 0; i < 27; i++) {
            chosen = chosen * 1103515245 + 12345;
            if ((chosen >> 16) % 3)
                continue;
            snprintf(name, sizeof(name), "GET %s%s%s", parts[i / 9], parts[i / 3 % 3],
                     parts[i % 3]);
            for (char *c = strchr(name, ':'), n = '1'; c; c = strchr(c + 1, ':'))
                c[1] = n++; /* :x three times isn't allowed */
            assert_int_equal(route_read(&routes.items[routes.count++], name, strlen(name), &err),
                             0);
        }
        routes_sort(&routes);
        for (int i = 0; i < 27; i++) {
            const char *segments[] = {given[i / 9], given[i / 3 % 3], given[i % 3]};
            const struct route *found, *best = NULL;
            int best_rank = 8;
            char path[16];

            snprintf(path, sizeof(path), "%s%s%s", segments[0], segments[1], segments[2]);
            for (size_t r = 0; r < routes.count; r++) {
                int rank = 0;
                bool fits = true;

                for (int s = 0; s < 3; s++) {
                    const struct route_segment *segment = &routes.items[r].segments[s];

                    rank = rank * 2 + segment->is_parameter;
                    fits = fits && (segment->is_parameter || segment->text[0] == segments[s][1]);
                }
                if (fits && rank < best_rank) {
                    best = &routes.items[r];
                    best_rank = rank;
                }
            }
            found = routes_find(&routes, "GET", path);
            assert_ptr_equal(found, best);
        }
        for (size_t r = 0; r < routes.count; r++)
            route_release(&routes.items[r]);
    }
    routes.count = 0;
    routes_release(&routes);
}

static void route__parts_of_a_path(void **state)
{
    size_t len;

    (void)state;
    assert_string_equal(route_part("/a/bc/", 0, &len), "a/bc/");
    assert_int_equal(len, 1);
    assert_string_equal(route_part("/a/bc/", 1, &len), "bc/");
    assert_int_equal(len, 2);
    assert_string_equal(route_part("/a/bc/", 2, &len), "");
    assert_int_equal(len, 0);
}

static void route__decoding(void **state)
{
    static const struct {
        const char *text, *path, *query; /* NULL: refused */
    } cases[] = {
        {"", "", ""},
        {"abc", "abc", "abc"},
        {"a+b", "a+b", "a b"},
        {"a%2Bb", "a+b", "a+b"},
        {"%C3%a9\xC3\xA9", "\xC3\xA9\xC3\xA9", "\xC3\xA9\xC3\xA9"},
        {"%25", "%", "%"},
        {"%2525", "%25", "%25"},
        {"%", NULL, NULL},
        {"%2", NULL, NULL},
        {"a%2", NULL, NULL},
        {"%2g", NULL, NULL},
        {"%g2", NULL, NULL},
        {"% 2", NULL, NULL},
        {"%+2", NULL, NULL},
        {"%%", NULL, NULL},
        {"%00", NULL, NULL},
        {"%FF", NULL, NULL},
        {"%C3", NULL, NULL},
        {"%ED%A0%80", NULL, NULL},
        {"\xFF", NULL, NULL},
    };
    char out[64];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int plus = 0; plus < 2; plus++) {
            const char *text = cases[i].text, *wanted = plus ? cases[i].query : cases[i].path;
            bool ok = route_decode(text, strlen(text), plus, out, &len);

            assert_int_equal(ok, wanted != NULL);
            if (ok) {
                assert_int_equal(len, strlen(wanted));
                assert_memory_equal(out, wanted, len);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route__what_is_no_route_is_refused_by_name),
        cmocka_unit_test(route__what_is_one_is_taken),
        cmocka_unit_test(route__shape_is_what_two_routes_have_in_common),
        cmocka_unit_test(route__most_static_one_is_found),
        cmocka_unit_test(route__found_is_the_one_that_a_plain_search_finds),
        cmocka_unit_test(route__parts_of_a_path),
        cmocka_unit_test(route__decoding),
    };

    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
