/* SPDX-License-Identifier: MIT */
#include "store/wipe.h"

#include <stdint.h>
#include <string.h>

/* https://www.sqlite.org/fileformat2.html */
enum {
    PAGE_MIN = 512,
    FILE_HEADER = 100, /* bytes of page 1 before its B-tree */
    AT_PAGE_COUNT = 28,
    AT_LARGEST_ROOT = 52, /* 0 without auto_vacuum */
    INDEX_INTERIOR = 2,
    TABLE_INTERIOR = 5,
    INDEX_LEAF = 10,
    TABLE_LEAF = 13,
};

static uint32_t u16(const unsigned char *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t u32(const unsigned char *at)
{
    return u16(at) << 16 | u16(at + 2);
}

bool wipe_find_gap(const unsigned char *page, size_t size, size_t header, size_t *out_from,
                   size_t *out_to)
{
    const unsigned char *h = page + header;
    size_t cells = u16(h + 3), first_free = u16(h + 1), from, to;

    if (h[0] == INDEX_INTERIOR || h[0] == TABLE_INTERIOR)
        from = header + 12;
    else if (h[0] == INDEX_LEAF || h[0] == TABLE_LEAF)
        from = header + 8;
    else
        return false;
    to = u16(h + 5) ? u16(h + 5) : WIPE_PAGE_BYTES;
    if (from + 2 * cells > to || to > size || (first_free && first_free < to))
        return false;
    for (size_t i = 0; i < cells; i++) {
        size_t cell = u16(page + from + 2 * i);

        if (cell < to || cell >= size)
            return false;
    }
    *out_from = from + 2 * cells;
    *out_to = to;
    return true;
}

/*
 * Is it a file of which a page that looks like a B-tree's is one? Asked anew each time, and seldom:
 * another process may have changed the file. A checkpoint writes page 1 first, so what the file
 * says there holds for the pages that follow. A file with no page 1 yet could be any.
 */
static int check_file(sqlite3_file *file, const unsigned char *page, sqlite3_int64 at,
                      bool *out_is_plain)
{
    unsigned char header[FILE_HEADER];

    *out_is_plain = false;
    if (at == 0) {
        memcpy(header, page, sizeof(header));
    } else {
        int rc = file->pMethods->xRead(file, header, sizeof(header), 0);

        if (rc != SQLITE_OK)
            return rc == SQLITE_IOERR_SHORT_READ ? SQLITE_OK : rc;
    }
    *out_is_plain =
        u32(header + AT_LARGEST_ROOT) == 0 && u32(header + AT_PAGE_COUNT) <= WIPE_PAGES_MAX;
    return SQLITE_OK;
}

static bool is_page(int len, sqlite3_int64 at)
{
    return len >= PAGE_MIN && len <= WIPE_PAGE_BYTES && (len & (len - 1)) == 0 && at % len == 0;
}

static bool is_clear(const unsigned char *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

int wipe_page(sqlite3_file *file, const void *page, int len, sqlite3_int64 at,
              unsigned char room[WIPE_PAGE_BYTES], const void **out)
{
    bool is_plain = false;
    size_t from, to;
    int rc;

    *out = page;
    if (!is_page(len, at) ||
        !wipe_find_gap(page, (size_t)len, at == 0 ? FILE_HEADER : 0, &from, &to) ||
        is_clear((const unsigned char *)page + from, to - from))
        return SQLITE_OK;
    rc = check_file(file, page, at, &is_plain);
    if (rc != SQLITE_OK || !is_plain)
        return rc;
    memcpy(room, page, (size_t)len);
    memset(room + from, 0, to - from);
    *out = room;
    return SQLITE_OK;
}
