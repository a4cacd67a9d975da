/* SPDX-License-Identifier: MIT */
#include "store/memory.h"

#include <malloc.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>

/* Counted while there is a limit. used may fall below 0: what was there before the limit was set can be
 * freed under it. */
static _Thread_local struct {
    int64_t used;  /* since the limit was set */
    int64_t limit; /* 0: none */
    bool refused;
} mine;

static bool may_have(int64_t bytes)
{
    if (mine.limit == 0 || mine.used + bytes <= mine.limit)
        return true;
    if (mine.refused && mine.used + bytes <= mine.limit + MEMORY_RESERVE_BYTES)
        return true;
    mine.refused = true;
    return false;
}

static void *get(int size)
{
    void *block = may_have(size) ? malloc((size_t)size) : NULL;

    if (block && mine.limit)
        mine.used += (int64_t)malloc_usable_size(block);
    return block;
}

static void give_back(void *block)
{
    if (mine.limit)
        mine.used -= (int64_t)malloc_usable_size(block);
    free(block);
}

static void *resize(void *block, int size)
{
    int64_t old_size = mine.limit ? (int64_t)malloc_usable_size(block) : 0;
    void *fresh = may_have(size - old_size) ? realloc(block, (size_t)size) : NULL;

    if (fresh && mine.limit)
        mine.used += (int64_t)malloc_usable_size(fresh) - old_size;
    return fresh;
}

static int size_of(void *block)
{
    return block ? (int)malloc_usable_size(block) : 0;
}

static int round_up(int size)
{
    return (size + 7) & ~7;
}

static int begin(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void end(void *unused)
{
    (void)unused;
}

void memory_install(void)
{
    static const sqlite3_mem_methods methods = {
        .xMalloc = get,
        .xFree = give_back,
        .xRealloc = resize,
        .xSize = size_of,
        .xRoundup = round_up,
        .xInit = begin,
        .xShutdown = end,
    };

    sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
}

void memory_limit(size_t bytes)
{
    mine.used = 0;
    mine.limit = (int64_t)bytes;
    mine.refused = false;
}

bool memory_was_refused(void)
{
    return mine.refused;
}

size_t memory_limit_bytes(void)
{
    return (size_t)mine.limit;
}
