/* SPDX-License-Identifier: MIT */
/*
 * wipe - a database file that holds nothing but what is in the database.
 *
 * secure_delete overwrites what is deleted, but not the copies that SQLite itself leaves behind: to
 * balance a B-tree it builds pages anew and doesn't clear the room between a page's cell pointers
 * and its cells, where the cells were before. So of some hundred erased rows one is still in the
 * file (3.40.1, measured). Here that room is cleared in every page on its way into the file; the
 * WAL, whose frames are checksummed, is left alone and must be emptied (db_scrub_wal).
 *
 * The room belongs to nobody (https://www.sqlite.org/fileformat2.html, 1.6, "unallocated space"),
 * so no reader can tell the difference. A page that isn't without doubt a B-tree page stays as it
 * is. Pages don't say what they are, so nothing is cleared in a file with auto_vacuum (its pointer
 * maps could be taken for B-trees), nor in one of more than WIPE_PAGES_MAX pages (so could its
 * overflow pages: they begin with a page number). Ours have neither.
 *
 * Threads    any.
 */
#ifndef STORE_WIPE_H
#define STORE_WIPE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    WIPE_PAGES_MAX = (1 << 25) - 1, /* 128 GiB of pages of 4 KiB */
    WIPE_PAGE_BYTES = 65536,        /* of the largest */
};

/* What is about to be written to a database's file, without its gap: *out is page itself where there is none
 * to clear, else room. The file is asked what it is by its xRead, whose error this is, then. */
int wipe_page(sqlite3_file *file, const void *page, int len, sqlite3_int64 at,
              unsigned char room[WIPE_PAGE_BYTES], const void **out);

/* Where the unused room of a B-tree page is, [*out_from, *out_to), header bytes behind its start
 * (100 in page 1, else 0). False when it is none, or damaged. */
bool wipe_find_gap(const unsigned char *page, size_t size, size_t header, size_t *out_from,
                   size_t *out_to);

#endif
