/* SPDX-License-Identifier: MIT */
#include "store/memory.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>

/* used may fall below 0: what was there before the limit was set can be freed under it. */
static _Thread_local struct {
    int64_t used;  /* since the limit was set */
    int64_t limit; /* 0: none */
    bool refused;
} mine;

/*
 * Before each block stands its size, which is much nearer than malloc_usable_size has it. What SQLite
 * gets is aligned to 8 bytes, as it asks for.
 */
struct head {
    int64_t size; /* without the head; a multiple of STEP */
};

/*
 * Blocks that were given back, by size, kept to be given again. A statement asks for a dozen cursors of
 * one size, an undo log of a savepoint for nine pieces of another: more than malloc has at hand of a
 * size, so that it merges and splits them at every event.
 */
enum {
    STEP = 16,
    KEPT_MAX = 1088,
    KEPT_SIZES = KEPT_MAX / STEP + 1,
    KEPT_OF_A_SIZE = 16,
};

struct kept_block {
    struct head head;
    struct kept_block *next;
};

struct memory_store {
    struct kept_block *first[KEPT_SIZES]; /* by head.size / STEP */
    unsigned char count[KEPT_SIZES];
};

static _Thread_local struct memory_store *store; /* the calling thread's; NULL: none */

static bool may_have(int64_t bytes)
{
    if (mine.limit == 0 || mine.used + bytes <= mine.limit)
        return true;
    if (mine.refused && mine.used + bytes <= mine.limit + MEMORY_RESERVE_BYTES)
        return true;
    mine.refused = true;
    return false;
}

static struct head *head_of(void *block)
{
    return (struct head *)block - 1;
}

static int round_up(int size)
{
    return (size + STEP - 1) & ~(STEP - 1);
}

static struct head *take_kept(struct memory_store *from, int64_t size)
{
    struct kept_block *block = from && size <= KEPT_MAX ? from->first[size / STEP] : NULL;

    if (!block)
        return NULL;
    from->first[size / STEP] = block->next;
    from->count[size / STEP]--;
    return &block->head;
}

static struct head *new_block(int64_t size)
{
    struct head *head = malloc(sizeof(*head) + (size_t)size);

    if (head)
        head->size = size;
    return head;
}

static bool keep(struct head *head)
{
    struct kept_block *block = (struct kept_block *)head;
    int64_t i = head->size / STEP;

    if (!store || head->size > KEPT_MAX || store->count[i] == KEPT_OF_A_SIZE)
        return false;
    block->next = store->first[i];
    store->first[i] = block;
    store->count[i]++;
    return true;
}

static void *get(int asked)
{
    int64_t size = round_up(asked);
    struct head *head;

    if (!may_have(size))
        return NULL;
    head = take_kept(store, size);
    if (!head)
        head = new_block(size);
    if (!head)
        return NULL;
    mine.used += size;
    return head + 1;
}

static void give_back(void *block)
{
    struct head *head = head_of(block);

    mine.used -= head->size;
    if (!keep(head))
        free(head);
}

static void *resize(void *block, int asked)
{
    int64_t size = round_up(asked), old_size = head_of(block)->size;
    struct head *fresh =
        may_have(size - old_size) ? realloc(head_of(block), sizeof(*fresh) + (size_t)size) : NULL;

    if (!fresh)
        return NULL;
    fresh->size = size;
    mine.used += size - old_size;
    return fresh + 1;
}

static int size_of(void *block)
{
    return block ? (int)head_of(block)->size : 0;
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

struct memory_store *memory_store_new(void)
{
    return calloc(1, sizeof(struct memory_store));
}

void memory_store_empty(struct memory_store *emptied)
{
    struct head *head;

    for (int64_t size = 0; size <= KEPT_MAX; size += STEP)
        while ((head = take_kept(emptied, size)))
            free(head);
}

void memory_store_free(struct memory_store *freed)
{
    if (!freed)
        return;
    memory_store_empty(freed);
    free(freed);
}

void memory_use_store(struct memory_store *used)
{
    store = used;
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
