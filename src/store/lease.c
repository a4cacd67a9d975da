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

/* Before the connection asks the real layer for anything: nobody else shall be in there for it meanwhile. And
 * a reader that takes another lock, since the log has grown, needs the one before no longer. */
static void end_own(struct lease *lease)
{
    pthread_mutex_lock(&list_lock);
    end_locks(lease, 0, SQLITE_SHM_NLOCK);
    pthread_mutex_unlock(&list_lock);
}

static void end_everybodys(int first, int count)
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
    pthread_mutex_lock(&list_lock);
    end_locks(lease, 0, SQLITE_SHM_NLOCK);
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) /* what couldn't be given back goes with the file */
        atomic_store(&lease->locks[i], FREE);
    while (*at != lease)
        at = &(*at)->next;
    *at = lease->next;
    lease->keeps = false;
    pthread_mutex_unlock(&list_lock);
}

void lease_end_all(void)
{
    end_everybodys(0, SQLITE_SHM_NLOCK);
}

static bool is_kept(struct lease *lease, int lock)
{
    int kept = KEPT;

    return atomic_compare_exchange_strong(&lease->locks[lock], &kept, IN_USE);
}

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
    if (lease->keeps)
        end_own(lease);
    if (flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE))
        end_everybodys(first, count);
    return lease->real->xShmLock(lease->file, first, count, flags);
}
