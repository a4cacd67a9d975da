/* SPDX-License-Identifier: MIT */
#include "script/blocks.h"

#include <stdlib.h>

/* A block that is kept must be as much out of reach as one that was freed. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define FORBID(start, size) ASAN_POISON_MEMORY_REGION(start, size)
#define ALLOW(start, size) ASAN_UNPOISON_MEMORY_REGION(start, size)
#else
#define FORBID(start, size) ((void)(start), (void)(size))
#define ALLOW(start, size) ((void)(start), (void)(size))
#endif

struct kept_block {
    struct kept_block *next;
    char rest[]; /* forbidden */
};

/* Of small sizes only. */
static size_t list_of(size_t size)
{
    return size <= BLOCK_LEAST_BYTES
               ? 0
               : (size - BLOCK_LEAST_BYTES + BLOCK_STEP_BYTES - 1) / BLOCK_STEP_BYTES;
}

static size_t list_bytes(size_t list)
{
    return BLOCK_LEAST_BYTES + list * BLOCK_STEP_BYTES;
}

static size_t rest_bytes(size_t list)
{
    return list_bytes(list) - sizeof(struct kept_block);
}

static void *take(struct blocks *blocks, size_t list)
{
    struct kept_block *block = blocks->lists[list];

    if (!block)
        return malloc(list_bytes(list));
    blocks->lists[list] = block->next;
    blocks->kept_bytes -= list_bytes(list);
    ALLOW(block->rest, rest_bytes(list));
    return block;
}

/* What is made smaller may stay larger than its list says; it is as good there. */
void *blocks_resize(struct blocks *blocks, void *block, size_t old_size, size_t new_size)
{
    size_t bytes = new_size;
    void *fresh;

    if (new_size <= BLOCK_SMALL_BYTES) {
        size_t list = list_of(new_size);

        if (!block)
            return take(blocks, list);
        if (old_size <= BLOCK_SMALL_BYTES && list_of(old_size) == list)
            return block;
        bytes = list_bytes(list);
    }
    fresh = realloc(block, bytes);
    return fresh || new_size > old_size ? fresh : block;
}

void blocks_free(struct blocks *blocks, void *block, size_t size)
{
    struct kept_block *kept = block;
    size_t list = list_of(size);

    if (!block || size > BLOCK_SMALL_BYTES ||
        blocks->kept_bytes + list_bytes(list) > BLOCKS_KEPT_BYTES) {
        free(block);
        return;
    }
    kept->next = blocks->lists[list];
    FORBID(kept->rest, rest_bytes(list));
    blocks->lists[list] = kept;
    blocks->kept_bytes += list_bytes(list);
}

void blocks_release(struct blocks *blocks)
{
    for (size_t list = 0; list < BLOCK_LISTS; list++) {
        while (blocks->lists[list]) {
            struct kept_block *block = blocks->lists[list];

            blocks->lists[list] = block->next;
            ALLOW(block->rest, rest_bytes(list));
            free(block);
        }
    }
    blocks->kept_bytes = 0;
}
