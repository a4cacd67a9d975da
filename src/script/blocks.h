/* SPDX-License-Identifier: MIT */
/*
 * blocks - memory for a Lua state: what is freed is kept for the next that is as large.
 *
 * A state makes and frees small blocks all the time, and of few sizes. malloc gives one back for some
 * 250 instructions, since a collection frees more at once than its quick lists take; here it is ten.
 * Blocks are malloc's own, of sizes that leave no room of its chunks unused, in a list for each size.
 *
 * Threads    those of a state belong to the thread that runs it.
 * Ownership  blocks_release frees what is kept; blocks that are out are the caller's.
 * Errors     NULL: no memory; the old block is as it was. To make a block smaller never fails.
 * Limits     blocks of BLOCK_SMALL_BYTES; BLOCKS_KEPT_BYTES are kept at most.
 */
#ifndef SCRIPT_BLOCKS_H
#define SCRIPT_BLOCKS_H

#include <stddef.h>

enum {
    BLOCK_STEP_BYTES = 16,
    BLOCK_LEAST_BYTES = 24,
    BLOCK_LISTS = 32,
    BLOCK_SMALL_BYTES = BLOCK_LEAST_BYTES + (BLOCK_LISTS - 1) * BLOCK_STEP_BYTES,
    BLOCKS_KEPT_BYTES = 1024 * 1024,
};

struct kept_block;

/* Zeroed: nothing is kept. */
struct blocks {
    struct kept_block *lists[BLOCK_LISTS];
    size_t kept_bytes;
};

/* As realloc, with the size that the block was asked for with (0: block is NULL); new_size isn't 0. */
void *blocks_resize(struct blocks *blocks, void *block, size_t old_size, size_t new_size);

/* As free, with the size that the block was asked for with. */
void blocks_free(struct blocks *blocks, void *block, size_t size);

void blocks_release(struct blocks *blocks);

#endif
