/* SPDX-License-Identifier: MIT */
#include "workos/bodies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void keep(struct bodies *bodies, const char *id, const char *body, size_t len)
{
    struct event event = {.body = body, .body_len = len};

    snprintf(event.id, sizeof(event.id), "%s", id);
    bodies_keep(bodies, &event);
}

static void keep_text(struct bodies *bodies, const char *id, const char *text)
{
    keep(bodies, id, text, strlen(text));
}

static void assert_has(const struct bodies *bodies, const char *id, const char *text)
{
    size_t len = 0;
    const char *found = bodies_find(bodies, id, &len);

    if (!text) {
        assert_null(found);
        return;
    }
    assert_non_null(found);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(found, text, len);
}

static void bodies__are_found_by_id_until_they_are_dropped(void **state)
{
    struct bodies *bodies = bodies_new();
    char body[] = "{\"id\":\"b\"}";

    (void)state;
    assert_has(bodies, "a", NULL);
    keep_text(bodies, "a", "1");
    keep_text(bodies, "b", body);
    memset(body, 'x', sizeof(body) - 1); /* they are copies */
    keep_text(bodies, "c", "");
    assert_has(bodies, "a", "1");
    assert_has(bodies, "b", "{\"id\":\"b\"}");
    assert_has(bodies, "c", "");
    bodies_drop(bodies, "b");
    bodies_drop(bodies, "b");
    bodies_drop(bodies, "never there");
    assert_has(bodies, "b", NULL);
    assert_has(bodies, "a", "1");
    keep_text(bodies, "a", "the second");
    assert_has(bodies, "a", "the second");
    bodies_free(bodies);
    bodies_free(NULL);
}

/* A flood: the newest are kept, and no more memory than the limit is used. */
static void bodies__oldest_goes_first(void **state)
{
    enum { LEN = 100 * 1000, COUNT = 3 * BODIES_MAX_BYTES / LEN };
    struct bodies *bodies = bodies_new();
    char *body = malloc(LEN), id[16];
    size_t len, there = 0;

    (void)state;
    memset(body, 'x', LEN);
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        keep(bodies, id, body, LEN);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        there += bodies_find(bodies, id, &len) != NULL;
        assert_int_equal(there > 0,
                         bodies_find(bodies, id, &len) != NULL); /* all behind the first */
    }
    assert_in_range(there, BODIES_MAX_BYTES / LEN - 1, BODIES_MAX_BYTES / LEN);
    free(body);
    bodies_free(bodies);
}

/* One that has no room at all turns no other out. */
static void bodies__giant_is_not_kept(void **state)
{
    struct bodies *bodies = bodies_new();
    char *giant = calloc(1, BODIES_MAX_BYTES);

    (void)state;
    keep_text(bodies, "a", "1");
    keep(bodies, "giant", giant, BODIES_MAX_BYTES);
    assert_has(bodies, "giant", NULL);
    assert_has(bodies, "a", "1");
    free(giant);
    bodies_free(bodies);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies__are_found_by_id_until_they_are_dropped),
        cmocka_unit_test(bodies__oldest_goes_first),
        cmocka_unit_test(bodies__giant_is_not_kept),
    };

    return cmocka_run_group_tests_name("bodies", tests, NULL, NULL);
}
