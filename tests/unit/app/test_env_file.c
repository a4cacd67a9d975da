/* SPDX-License-Identifier: MIT */
#include "app/env_file.h"

#include "unit/store/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

#define MARK "\xEF\xBB\xBF" /* a byte order mark */

static int read_bytes(struct env_file **out, const char *bytes, size_t len, struct err *err)
{
    FILE *stream = fopen("test.env", "w");

    assert_non_null(stream);
    fwrite(bytes, 1, len, stream);
    fclose(stream);
    return env_file_read(out, "test.env", err);
}

static int read_text(struct env_file **out, const char *text, struct err *err)
{
    return read_bytes(out, text, strlen(text), err);
}

static void is(const char *text, const char *key, const char *wanted, int wanted_line)
{
    struct env_file *file = NULL;
    struct err err = {0};
    const char *value;
    int line = 0;

    if (read_text(&file, text, &err) < 0)
        fail_msg("%s", err.text);
    value = env_file_get(file, key, &line);
    if (!value || !wanted) {
        assert_ptr_equal(value, wanted);
    } else {
        assert_string_equal(value, wanted);
        assert_int_equal(line, wanted_line);
    }
    env_file_free(file);
}

static void env_file__forms_of_a_line(void **state)
{
    (void)state;
    is("A=b\n", "A", "b", 1);
    is("A=b", "A", "b", 1);
    is("# c\n\n  # d\n \t\nA=b\n", "A", "b", 5);
    is("  A=b  \t\n", "A", "b", 1);
    is("A=b\r\n", "A", "b", 1);
    is("export A=b\n", "A", "b", 1);
    is("export \t A=b\n", "A", "b", 1);
    is("export=b\n", "export", "b", 1);
    is("A=\n", "A", "", 1);
    is("A=\"\"\n", "A", "", 1);
    is("A=b=c # d\n", "A", "b=c # d", 1);
    is("A= b\n", "A", " b", 1);
    is(MARK "A=b\n", "A", "b", 1);
    is(MARK "\nA=b\n", "A", "b", 2);
    is("A=\"b c\"\n", "A", "b c", 1);
    is("A='b \"c\\'\n", "A", "b \"c\\", 1);
    is("A=\"b\\\"c\\\\d\\n\"\n", "A", "b\"c\\d\\n", 1);
    is("A=b\"c\n", "A", "b\"c", 1);
    is("a_1=b\n_A=c\n", "a_1", "b", 1);
    is("A=1\nB=2\nA=3\n", "A", "3", 3);
    is("A=1\n", "B", NULL, 0);
    is("A=\xff\u00e9\n", "A", "\xff\u00e9", 1);
    is("", "A", NULL, 0);
}

static void env_file__faults_name_file_and_line(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"A=1\nA = b\n", "test.env:2: this isn't KEY=value"},
        {"=b\n", "test.env:1: this isn't KEY=value"},
        {"A\n", "test.env:1: this isn't KEY=value"},
        {"1A=b\n", "test.env:1: this isn't KEY=value"},
        {"A-B=b\n", "test.env:1: this isn't KEY=value"},
        {"export\n", "test.env:1: this isn't KEY=value"},
        {"\n\nA=\"b\n", "test.env:3: the value's quotes don't match"},
        {"A='b\n", "test.env:1: the value's quotes don't match"},
        {"A=\"b\" # c\n", "test.env:1: the value's quotes don't match"},
        {"A=\"\n", "test.env:1: the value's quotes don't match"},
        {"A=\"b\\\"\n", "test.env:1: the value's quotes don't match"},
    };
    struct env_file *file = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *faults;

        assert_int_equal(read_text(&file, cases[i].text, &err), 0);
        faults = env_file_faults(file);
        if (!faults || strncmp(faults, cases[i].wanted, strlen(cases[i].wanted)) != 0)
            fail_msg("%s: %s", cases[i].text, faults ? faults : "no fault");
        env_file_free(file);
    }
}

/* Symptom: one had to mend a file as many times as it had bad lines. */
static void env_file__all_faults_are_told(void **state)
{
    struct env_file *file = NULL;
    struct err err;
    int line;

    (void)state;
    assert_int_equal(read_text(&file, "A\nB=1\nC='\nD=2\n", &err), 0);
    assert_string_equal(env_file_faults(file),
                        "test.env:1: this isn't KEY=value (no spaces around the '=')\n"
                        "test.env:3: the value's quotes don't match");
    assert_string_equal(env_file_get(file, "D", &line), "2");
    env_file_free(file);
    assert_int_equal(read_text(&file, "A\nB=1\nA\nA\nA\nA\nA\nA\nA\nA\nA\nA\nA\n", &err), 0);
    assert_non_null(strstr(env_file_faults(file), "test.env:11: "));
    assert_null(strstr(env_file_faults(file), "test.env:12: "));
    assert_non_null(strstr(env_file_faults(file), "\ntest.env: and 2 more such lines"));
    env_file_free(file);
    assert_int_equal(read_text(&file, "A=1\n", &err), 0);
    assert_null(env_file_faults(file));
    env_file_free(file);
}

/* Symptom: a secret counted as far as its first NUL. */
static void env_file__nul_byte_is_a_fault(void **state)
{
    static const char text[] = "A=b\nC=abc\0def\n# e\n";
    struct env_file *file = NULL;
    struct err err = {0};
    int line;

    (void)state;
    assert_int_equal(read_bytes(&file, text, sizeof(text) - 1, &err), 0);
    assert_string_equal(env_file_faults(file),
                        "test.env:2: it has a NUL byte, as UTF-16 has; save it as UTF-8");
    assert_string_equal(env_file_get(file, "A", &line), "b");
    assert_null(env_file_get(file, "C", &line));
    env_file_free(file);
}

static void env_file__error_does_not_show_the_value(void **state)
{
    struct env_file *file = NULL;
    struct err err;

    (void)state;
    assert_int_equal(read_text(&file, "WORKOS_WEBHOOK_SECRET=\"whsec_123\n", &err), 0);
    assert_null(strstr(env_file_faults(file), "whsec"));
    env_file_free(file);
}

static void env_file__unreadable_ones(void **state)
{
    struct env_file *file = NULL;
    struct err err;

    (void)state;
    assert_int_equal(env_file_read(&file, "absent.env", &err), ERR_IO);
    assert_non_null(strstr(err.text, "absent.env"));
    assert_int_equal(env_file_read(&file, ".", &err), ERR_IO);
    assert_null(file);
}

static void env_file__entries_in_order(void **state)
{
    struct env_file *file = NULL;
    struct err err;
    int line;

    (void)state;
    assert_int_equal(read_text(&file, "A=1\n\nB=2\nA=3\n", &err), 0);
    assert_string_equal(env_file_path(file), "test.env");
    assert_int_equal(env_file_count(file), 3);
    assert_string_equal(env_file_at(file, 1, &line), "B");
    assert_int_equal(line, 3);
    env_file_free(file);
    env_file_free(NULL);
    assert_int_equal(env_file_count(NULL), 0);
    assert_null(env_file_get(NULL, "A", &line));
}

/* --- writing ---------------------------------------------------------------------------------- */

static void becomes(const char *before, const char *value, const char *after)
{
    char text[1024] = "";
    struct err err = {0};
    FILE *stream;

    unlink("set.env");
    if (before) {
        stream = fopen("set.env", "w");
        fputs(before, stream);
        fclose(stream);
    }
    if (env_file_set("set.env", "KEY", value, &err) < 0)
        fail_msg("%s", err.text);
    stream = fopen("set.env", "r");
    text[fread(text, 1, sizeof(text) - 1, stream)] = '\0';
    fclose(stream);
    assert_string_equal(text, after);
}

static void env_file__set_keeps_everything_else(void **state)
{
    (void)state;
    becomes(NULL, "v", "KEY=v\n");
    becomes("", "v", "KEY=v\n");
    becomes("A=b", "v", "A=b\nKEY=v\n");
    becomes("# KEY=x\nA=b\nKEYS=c\nXKEY=d\n", "v", "# KEY=x\nA=b\nKEYS=c\nXKEY=d\nKEY=v\n");
    becomes("A=b\nKEY=old\n# c\n", "v", "A=b\nKEY=v\n# c\n");
    becomes("KEY=", "v", "KEY=v");
    becomes("  export  KEY=\"old\"\r\nA=b\r\n", "v", "  export  KEY=v\r\nA=b\r\n");
    becomes("KEY=first\nKEY=last\n", "v", "KEY=first\nKEY=v\n");
    becomes(MARK "KEY=old\n", "v", MARK "KEY=v\n");
}

static void env_file__set_is_read_again(void **state)
{
    static const char *const values[] = {"whsec_0FWA", "a b",   "a\"b\\c",
                                         "'x'",        "$(x)#", "\xC3\xA4"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct env_file *file = NULL;
        struct err err = {0};
        int line;

        assert_int_equal(env_file_set("set.env", "KEY", values[i], &err), 0);
        assert_int_equal(env_file_read(&file, "set.env", &err), 0);
        assert_string_equal(env_file_get(file, "KEY", &line), values[i]);
        assert_int_equal(line, 1);
        env_file_free(file);
    }
}

static void env_file__set_leaves_a_link_a_link(void **state)
{
    struct env_file *file = NULL;
    struct err err = {0};
    struct stat st;
    int line;

    (void)state;
    assert_int_equal(mkdir("real", 0700), 0);
    assert_int_equal(env_file_set("real/file.env", "KEY", "old", &err), 0);
    assert_int_equal(symlink("real/file.env", "link.env"), 0);
    assert_int_equal(env_file_set("link.env", "KEY", "new", &err), 0);
    assert_int_equal(lstat("link.env", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(env_file_read(&file, "real/file.env", &err), 0);
    assert_string_equal(env_file_get(file, "KEY", &line), "new");
    env_file_free(file);
}

/* Symptom: after setup --write the service's group could no longer read a file of mode 0640. */
static void env_file__set_keeps_who_may_read(void **state)
{
    static const mode_t modes[] = {0600, 0640, 0644, 0660};
    const mode_t old_mask = umask(077);
    const gid_t group = geteuid() == 0 ? 12345 : getegid();
    struct err err = {0};
    struct stat st;

    (void)state;
    assert_int_equal(env_file_set("set.env", "KEY", "made", &err), 0);
    assert_int_equal(stat("set.env", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        assert_int_equal(chown("set.env", geteuid(), group), 0);
        assert_int_equal(chmod("set.env", modes[i]), 0);
        assert_int_equal(env_file_set("set.env", "KEY", "changed", &err), 0);
        assert_int_equal(stat("set.env", &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i]);
        assert_int_equal(st.st_gid, group);
    }
    umask(0);
    assert_int_equal(env_file_set("new.env", "KEY", "made", &err), 0);
    assert_int_equal(stat("new.env", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    umask(old_mask);
}

static void env_file__set_where_nothing_can_be_written(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(env_file_set("no/such/folder.env", "KEY", "v", &err), ERR_IO);
    assert_non_null(strstr(err.text, "no/such/folder.env"));
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(env_file_set("folder", "KEY", "v", &err), ERR_INVALID);
    assert_int_equal(access("folder", F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(env_file__forms_of_a_line),
        IN_TEMP_DIR(env_file__faults_name_file_and_line),
        IN_TEMP_DIR(env_file__all_faults_are_told),
        IN_TEMP_DIR(env_file__nul_byte_is_a_fault),
        IN_TEMP_DIR(env_file__error_does_not_show_the_value),
        IN_TEMP_DIR(env_file__unreadable_ones),
        IN_TEMP_DIR(env_file__entries_in_order),
        IN_TEMP_DIR(env_file__set_keeps_everything_else),
        IN_TEMP_DIR(env_file__set_is_read_again),
        IN_TEMP_DIR(env_file__set_leaves_a_link_a_link),
        IN_TEMP_DIR(env_file__set_keeps_who_may_read),
        IN_TEMP_DIR(env_file__set_where_nothing_can_be_written),
    };

    return cmocka_run_group_tests_name("env_file", tests, NULL, NULL);
}
