/* SPDX-License-Identifier: MIT */
#include "store/lease.h"

#include <pthread.h>

enum { READ_LOCKS = 3 }; /* the first of them; those before it are the writer's and others' */

enum { FREE, IN_USE, KEPT, ENDING };

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct lease *list;

/* With the lock held. */
static void end_locks(struct lease *lease, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        int kept = KEPT;
        bool is_free;

        if (atomic_load(&lease->locks[i]) != KEPT ||
            !atomic_compare_exchange_strong(&lease->locks[i], &kept, ENDING))
            continue; /* the connection was faster */
        is_free = lease->real->xShmLock(lease->file, i, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED) ==
                  SQLITE_OK;
        atomic_store(&lease->locks[i], is_free ? FREE : KEPT);
    }
}

static void end_own(struct lease *lease)
{
    pthread_mutex_lock(&list_lock);
    end_locks(lease, 0, SQLITE_SHM_NLOCK);
    pthread_mutex_unlock(&list_lock);
}

static void end_others(int first, int count)
{
    pthread_mutex_lock(&list_lock);
    for (struct lease *at = list; at; at = at->next)
        end_locks(at, first, count);
    pthread_mutex_unlock(&list_lock);
}

void lease_init(struct lease *lease, const sqlite3_io_methods *real, sqlite3_file *file)
{
    *lease = (struct lease){.real = real, .file = file};
}

void lease_keep(struct lease *lease)
{
    pthread_mutex_lock(&list_lock);
    if (!lease->keeps) {
        lease->keeps = true;
        lease->next = list;
        list = lease;
    }
    pthread_mutex_unlock(&list_lock);
}

void lease_leave(struct lease *lease)
{
    struct lease **at = &list;

    if (!lease->keeps)
        return;
    end_own(lease);
    pthread_mutex_lock(&list_lock);
    while (*at != lease)
        at = &(*at)->next;
    *at = lease->next;
    lease->keeps = false;
    pthread_mutex_unlock(&list_lock);
}

void lease_end_all(void)
{
    end_others(0, SQLITE_SHM_NLOCK);
}

static bool is_kept(struct lease *lease, int lock)
{
    int kept = KEPT;

    return atomic_compare_exchange_strong(&lease->locks[lock], &kept, IN_USE);
}

/* A reader of a log that has grown takes another lock: the one before it isn't needed any more. */
static int take_shared(struct lease *lease, int lock)
{
    int rc;

    if (is_kept(lease, lock))
        return SQLITE_OK;
    end_own(lease);
    rc = lease->real->xShmLock(lease->file, lock, 1, SQLITE_SHM_LOCK | SQLITE_SHM_SHARED);
    if (rc == SQLITE_OK)
        atomic_store(&lease->locks[lock], IN_USE);
    return rc;
}

int lease_lock(struct lease *lease, int first, int count, int flags)
{
    if (flags & SQLITE_SHM_SHARED && lease->keeps && first >= READ_LOCKS) {
        if (flags & SQLITE_SHM_LOCK)
            return take_shared(lease, first);
        atomic_store(&lease->locks[first], KEPT);
        return SQLITE_OK;
    }
    if (flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE))
        end_others(first, count);
    return lease->real->xShmLock(lease->file, first, count, flags);
}
