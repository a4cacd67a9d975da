/* SPDX-License-Identifier: MIT */
#include "workos/state_table.h"

#include "unit/workos/service.h"

static void state_table__keeps_what_was_put_last(void **state)
{
    struct buf text = BUF_INIT(64);
    struct service s;
    struct err err;
    int64_t number;

    (void)state;
    start_service(&s);
    take_connection(&s);
    assert_int_equal(state_get_int(s.db, "test.number", -7, &number, &err), 0);
    assert_int_equal(number, -7);
    assert_int_equal(state_get_text(s.db, "test.text", &text, &err), 0);
    assert_int_equal(text.len, 0);

    assert_int_equal(state_put_int(s.db, "test.number", INT64_MAX, &err), 0);
    assert_int_equal(state_put_text(s.db, "test.text", "one", &err), 0);
    assert_int_equal(state_put_text(s.db, "test.text", "two", &err), 0);
    assert_int_equal(state_get_int(s.db, "test.number", -7, &number, &err), 0);
    assert_true(number == INT64_MAX);
    assert_int_equal(state_get_text(s.db, "test.text", &text, &err), 0);
    assert_string_equal(buf_text(&text), "two");
    buf_release(&text);
    stop_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(state_table__keeps_what_was_put_last),
    };

    return cmocka_run_group_tests_name("state_table", tests, NULL, NULL);
}
