/* SPDX-License-Identifier: MIT */
#include "script/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 400, STEPS = 200000 };

struct slot {
    unsigned char *block;
    size_t size;
};

static uint64_t random_state = 88172645463325252;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state >> 11) % n;
}

static size_t random_size(void)
{
    return 1 + random_below(random_below(8) == 0 ? 4 * BLOCK_SMALL_BYTES : 100);
}

/* All of a block has the same byte, which its slot tells. */
static void check(const struct slot *slot, size_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(slot->block[i], (unsigned char)number);
}

static void resize(struct blocks *blocks, struct slot *slot, size_t number, size_t size)
{
    unsigned char *fresh = blocks_resize(blocks, slot->block, slot->size, size);

    assert_non_null(fresh);
    assert_int_equal((uintptr_t)fresh % sizeof(void *), 0);
    slot->block = fresh;
    check(slot, number, size < slot->size ? size : slot->size);
    slot->size = size;
    memset(slot->block, (int)number, size);
}

static void free_slot(struct blocks *blocks, struct slot *slot, size_t number)
{
    if (slot->block)
        check(slot, number, slot->size);
    blocks_free(blocks, slot->block, slot->size);
    *slot = (struct slot){0};
}

static void blocks__hold_what_is_in_them(void **state)
{
    static struct slot slots[SLOTS];
    struct blocks blocks = {0};

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        size_t number = random_below(SLOTS);

        if (random_below(3) == 0)
            free_slot(&blocks, &slots[number], number);
        else
            resize(&blocks, &slots[number], number, random_size());
    }
    for (size_t number = 0; number < SLOTS; number++)
        free_slot(&blocks, &slots[number], number);
    blocks_release(&blocks);
    assert_int_equal(blocks.kept_bytes, 0);
}

static void blocks__freed_one_is_the_next_of_its_size(void **state)
{
    struct blocks blocks = {0};
    void *block = blocks_resize(&blocks, NULL, 0, 100), *next;

    (void)state;
    blocks_free(&blocks, block, 100);
    assert_true(blocks.kept_bytes >= 100);
    next = blocks_resize(&blocks, NULL, 0, 97);
    assert_ptr_equal(next, block);
    assert_int_equal(blocks.kept_bytes, 0);
    blocks_free(&blocks, next, 97);
    blocks_free(&blocks, NULL, 0);
    blocks_release(&blocks);
}

static void blocks__no_more_is_kept_than_may_be(void **state)
{
    enum { COUNT = 2 * BLOCKS_KEPT_BYTES / BLOCK_SMALL_BYTES };
    static void *all[COUNT];
    struct blocks blocks = {0};
    void *large;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        all[i] = blocks_resize(&blocks, NULL, 0, BLOCK_SMALL_BYTES);
    for (int i = 0; i < COUNT; i++) {
        blocks_free(&blocks, all[i], BLOCK_SMALL_BYTES);
        assert_true(blocks.kept_bytes <= BLOCKS_KEPT_BYTES);
    }
    assert_true(blocks.kept_bytes > BLOCKS_KEPT_BYTES - BLOCK_SMALL_BYTES);
    blocks_release(&blocks);
    large = blocks_resize(&blocks, NULL, 0, BLOCK_SMALL_BYTES + 1);
    blocks_free(&blocks, large, BLOCK_SMALL_BYTES + 1);
    assert_int_equal(blocks.kept_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks__hold_what_is_in_them),
        cmocka_unit_test(blocks__freed_one_is_the_next_of_its_size),
        cmocka_unit_test(blocks__no_more_is_kept_than_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
