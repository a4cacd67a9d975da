/* SPDX-License-Identifier: MIT */
#include "fault_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NODES_MAX = 16 };

atomic_long fault_writes = -1;
atomic_int fault_write_rc = SQLITE_FULL;
atomic_int fault_write_errno = EIO;
atomic_long fault_wal_writes = -1;
atomic_long fault_one_write = -1;
atomic_long fault_shm_locks = -1;
atomic_long fault_syncs = -1;
atomic_int fault_sync_ms;
fault_hook *_Atomic fault_before_page;

/* ------------------------------------------------------------ the disk's memory */

struct change {
    struct change *next;
    int64_t at;  /* or the size, of a truncation */
    size_t size; /* 0: a truncation */
    unsigned char bytes[];
};

/* What a file is on the disk, and what has happened to it since its last sync. */
struct inode {
    bool is_there;
    bool has_entry; /* the directory on the disk names it */
    unsigned char *bytes;
    size_t size;
    struct change *changes, **end;
};

struct node {
    char path[512];
    struct inode now;  /* what the name means now */
    struct inode then; /* what it means to the directory on the disk, when that is something else */
    bool syncs_directory; /* with its next sync */
};

static struct disk {
    pthread_mutex_t lock;
    bool is_watched; /* between start and reboot */
    bool is_dead;    /* the power is cut */
    bool has_failed;
    struct fault_plan plan;
    uint64_t random;
    long writes, syncs, operations;
    struct node nodes[NODES_MAX];
    size_t node_count;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* splitmix64 */
uint64_t fault_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static size_t random_below(size_t n)
{
    return n ? (size_t)(fault_random(&disk.random) % n) : 0;
}

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void release_inode(struct inode *inode)
{
    while (inode->changes) {
        struct change *next = inode->changes->next;

        free(inode->changes);
        inode->changes = next;
    }
    free(inode->bytes);
    *inode = (struct inode){0};
}

static void new_inode(struct inode *inode)
{
    *inode = (struct inode){.is_there = true};
    inode->end = &inode->changes;
}

static void resize(struct inode *inode, size_t size)
{
    if (size > inode->size) {
        inode->bytes = must(realloc(inode->bytes, size));
        memset(inode->bytes + inode->size, 0, size - inode->size);
    }
    inode->size = size;
}

static void put(struct inode *inode, size_t at, const unsigned char *bytes, size_t len)
{
    if (at + len > inode->size)
        resize(inode, at + len);
    memcpy(inode->bytes + at, bytes, len);
}

static void note_change(struct inode *inode, int64_t at, const void *bytes, size_t len)
{
    struct change *change = must(malloc(sizeof(*change) + len));

    change->next = NULL;
    change->at = at;
    change->size = len;
    if (len > 0)
        memcpy(change->bytes, bytes, len);
    *inode->end = change;
    inode->end = &change->next;
}

/* Every change is on the disk now. */
static void settle(struct inode *inode)
{
    struct change *change;

    while ((change = inode->changes)) {
        if (change->size > 0)
            put(inode, (size_t)change->at, change->bytes, change->size);
        else
            resize(inode, (size_t)change->at);
        inode->changes = change->next;
        free(change);
    }
    inode->end = &inode->changes;
}

static void settle_directory(void)
{
    for (size_t i = 0; i < disk.node_count; i++) {
        release_inode(&disk.nodes[i].then);
        disk.nodes[i].now.has_entry = disk.nodes[i].now.is_there;
    }
}

/* ------------------------------------------------------------------- a power cut */

/* How a disk loses writes: all, none, or each sector by itself with some probability. */
struct loss {
    size_t sector_bytes;
    size_t kept_percent;
    bool tears;
};

static struct loss draw_loss(void)
{
    static const size_t percents[] = {0, 10, 50, 90, 100};

    return (struct loss){
        .sector_bytes = random_below(2) ? 512 : 4096,
        .kept_percent = percents[random_below(5)],
        .tears = random_below(4) == 0,
    };
}

static void settle_part(struct inode *inode, const struct change *change, const struct loss *loss)
{
    size_t done = 0;

    while (done < change->size) {
        size_t at = (size_t)change->at + done;
        size_t len = loss->sector_bytes - at % loss->sector_bytes;

        if (len > change->size - done)
            len = change->size - done;
        if (random_below(100) < loss->kept_percent)
            put(inode, at, change->bytes + done,
                loss->tears && random_below(8) == 0 ? random_below(len) : len);
        done += len;
    }
}

/* Some of the changes are on the disk. A truncation that isn't takes those after it along: a file
 * system writes down the sizes and blocks of a file in their order. */
static void settle_some(struct inode *inode)
{
    const struct loss loss = draw_loss();

    for (struct change *change = inode->changes; change; change = change->next) {
        if (change->size > 0) {
            settle_part(inode, change, &loss);
        } else if (random_below(2)) {
            resize(inode, (size_t)change->at);
        } else {
            return;
        }
    }
}

static void write_whole(const char *path, const struct inode *inode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || (inode->size > 0 && write(fd, inode->bytes, inode->size) != (ssize_t)inode->size))
        abort();
    close(fd);
}

static void cut_power(struct node *node)
{
    struct inode *survivor = &node->now;

    if ((!node->now.is_there || !node->now.has_entry) && random_below(2))
        survivor = &node->then;
    if (survivor->is_there) {
        settle_some(survivor);
        write_whole(node->path, survivor);
    } else {
        unlink(node->path);
    }
}

static void remove_shm(const char *path)
{
    char shm[sizeof(disk.nodes[0].path) + 8];

    snprintf(shm, sizeof(shm), "%s-shm", path);
    unlink(shm);
}

void fault_disk_start(const struct fault_plan *plan)
{
    disk.plan = *plan;
    disk.random = plan->seed;
    disk.writes = disk.syncs = disk.operations = 0;
    disk.has_failed = disk.is_dead = false;
    disk.is_watched = true;
}

bool fault_disk_has_failed(void)
{
    bool failed;

    pthread_mutex_lock(&disk.lock);
    failed = disk.has_failed;
    pthread_mutex_unlock(&disk.lock);
    return failed;
}

void fault_disk_reboot(bool power_was_cut)
{
    for (size_t i = 0; i < disk.node_count; i++) {
        struct node *node = &disk.nodes[i];

        if (power_was_cut) {
            cut_power(node);
            remove_shm(node->path);
        }
        release_inode(&node->now);
        release_inode(&node->then);
    }
    disk.node_count = 0;
    disk.is_watched = disk.is_dead = false;
}

/* ---------------------------------------------------------- the calls, disk locked */

static struct node *find_node(const char *path)
{
    for (size_t i = 0; i < disk.node_count; i++)
        if (strcmp(disk.nodes[i].path, path) == 0)
            return &disk.nodes[i];
    return NULL;
}

static void read_whole(const char *path, struct inode *inode, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    inode->bytes = must(malloc(size));
    inode->size = size;
    if (fd < 0 || read(fd, inode->bytes, size) != (ssize_t)size)
        abort();
    close(fd);
}

/* An empty file that we haven't seen was made just now, and the directory may not know it yet. */
static struct node *watch(const char *path, bool was_there)
{
    struct node *node = find_node(path);
    struct stat st = {0};

    if (!node) {
        if (disk.node_count == NODES_MAX || strlen(path) >= sizeof(node->path))
            abort();
        node = &disk.nodes[disk.node_count++];
        *node = (struct node){0};
        strcpy(node->path, path);
        if (was_there && stat(path, &st) == 0) {
            new_inode(&node->now);
            node->now.has_entry = st.st_size > 0;
            if (st.st_size > 0)
                read_whole(path, &node->now, (size_t)st.st_size);
        }
    }
    if (!node->now.is_there)
        new_inode(&node->now);
    return node;
}

/* Counts an operation. False when the power is gone, with or before it. */
static bool has_power(void)
{
    if (disk.is_watched && ++disk.operations == disk.plan.cut_at)
        disk.is_dead = disk.has_failed = true;
    if (disk.is_dead)
        errno = EIO;
    return !disk.is_dead;
}

static int fail(int rc, int number)
{
    disk.has_failed = true;
    errno = number;
    return rc;
}

/* What the plan says of this write; *len is cut down to what of it is done all the same. */
static int plan_write(int64_t at, int *len)
{
    const struct fault_plan *plan = &disk.plan;
    long n = ++disk.writes;
    bool is_full = plan->full_at_write && n >= plan->full_at_write &&
                   n < plan->full_at_write + plan->full_writes;

    if (!is_full && n != plan->fail_at_write)
        return SQLITE_OK;
    if (plan->tears && *len > 512)
        *len = (int)(random_below((size_t)*len / 512) * 512 + (512 - (size_t)at % 512));
    else
        *len = 0;
    return is_full ? fail(SQLITE_FULL, ENOSPC) : fail(SQLITE_IOERR_WRITE, EIO);
}

/* ---------------------------------------------------------------------- the layer */

static sqlite3_vfs fault_vfs;
static sqlite3_vfs *real_vfs;

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* in the bytes behind this */
    struct node *node;  /* NULL: not watched */
    bool is_wal;
};

#define REAL(file) (((struct fault_file *)(file))->real)
#define CALL(file, method, ...) (REAL(file)->pMethods->method(REAL(file), __VA_ARGS__))

static bool count_down(atomic_long *counter)
{
    long left = atomic_load(counter);

    if (left > 0)
        atomic_store(counter, left - 1);
    return left != 0;
}

static int fault_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}

static int fault_read(sqlite3_file *f, void *bytes, int len, sqlite3_int64 at)
{
    bool dead;

    pthread_mutex_lock(&disk.lock);
    dead = disk.is_dead;
    pthread_mutex_unlock(&disk.lock);
    if (dead)
        errno = EIO;
    return dead ? SQLITE_IOERR_READ : CALL(f, xRead, bytes, len, at);
}

static int write_watched(struct fault_file *f, const void *bytes, int len, sqlite3_int64 at)
{
    int rc = SQLITE_OK, real_rc;
    bool powered;

    pthread_mutex_lock(&disk.lock);
    powered = has_power();
    if (powered)
        rc = plan_write(at, &len);
    if (f->node && len > 0 && (powered || disk.operations == disk.plan.cut_at))
        note_change(&f->node->now, at, bytes, (size_t)len);
    if (powered && len > 0) {
        real_rc = CALL(f, xWrite, bytes, len, at);
        rc = rc ? rc : real_rc;
    }
    pthread_mutex_unlock(&disk.lock);
    return powered ? rc : SQLITE_IOERR_WRITE;
}

static int fail_write(void)
{
    errno = atomic_load(&fault_write_errno);
    return atomic_load(&fault_write_rc);
}

static int fault_write(sqlite3_file *f, const void *bytes, int len, sqlite3_int64 at)
{
    struct fault_file *file = (struct fault_file *)f;
    fault_hook *hook = atomic_load(&fault_before_page);

    if (hook && !file->is_wal)
        hook();
    if (!count_down(&fault_one_write)) {
        atomic_store(&fault_one_write, -1);
        return fail_write();
    }
    if (!count_down(&fault_writes) || (file->is_wal && !count_down(&fault_wal_writes)))
        return fail_write();
    return disk.is_watched ? write_watched(file, bytes, len, at) : CALL(f, xWrite, bytes, len, at);
}

static int fault_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    struct fault_file *file = (struct fault_file *)f;
    int rc = SQLITE_IOERR_TRUNCATE;

    pthread_mutex_lock(&disk.lock);
    if (has_power()) {
        if (file->node)
            note_change(&file->node->now, size, NULL, 0);
        rc = CALL(f, xTruncate, size);
    }
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int sync_watched(struct fault_file *f)
{
    int rc = SQLITE_IOERR_FSYNC;

    pthread_mutex_lock(&disk.lock);
    if (!has_power())
        goto out;
    if (++disk.syncs == disk.plan.fail_at_sync) {
        rc = fail(SQLITE_IOERR_FSYNC, EIO);
        goto out;
    }
    rc = SQLITE_OK; /* and no real sync: it takes long, and proves nothing here */
    if (f->node) {
        settle(&f->node->now);
        if (f->node->syncs_directory)
            settle_directory();
        f->node->syncs_directory = false;
    }
out:
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int fault_sync(sqlite3_file *f, int flags)
{
    long left = atomic_load(&fault_syncs);

    usleep((useconds_t)atomic_load(&fault_sync_ms) * 1000);
    if (left >= 0)
        atomic_store(&fault_syncs, left - 1);
    if (left == 0)
        return SQLITE_IOERR_FSYNC;
    return disk.is_watched ? sync_watched((struct fault_file *)f) : CALL(f, xSync, flags);
}

static int fault_file_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return CALL(f, xFileSize, out);
}

static int fault_lock(sqlite3_file *f, int level)
{
    return CALL(f, xLock, level);
}

static int fault_unlock(sqlite3_file *f, int level)
{
    return CALL(f, xUnlock, level);
}

static int fault_check_lock(sqlite3_file *f, int *out)
{
    return CALL(f, xCheckReservedLock, out);
}

static int fault_control(sqlite3_file *f, int op, void *arg)
{
    return CALL(f, xFileControl, op, arg);
}

static int fault_sector_size(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int fault_features(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int fault_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return CALL(f, xShmMap, page, size, extend, out);
}

static int fault_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    if ((flags & SQLITE_SHM_LOCK) && !count_down(&fault_shm_locks))
        return SQLITE_FULL;
    return CALL(f, xShmLock, offset, n, flags);
}

static void fault_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int fault_shm_unmap(sqlite3_file *f, int remove)
{
    return CALL(f, xShmUnmap, remove);
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 2,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_file_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_check_lock,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector_size,
    .xDeviceCharacteristics = fault_features,
    .xShmMap = fault_shm_map,
    .xShmLock = fault_shm_lock,
    .xShmBarrier = fault_shm_barrier,
    .xShmUnmap = fault_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    const int watched = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
    const int synced_with_directory = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
    struct fault_file *f = (struct fault_file *)file;
    bool was_there = name && access(name, F_OK) == 0;
    int rc = SQLITE_CANTOPEN;

    (void)vfs;
    *f = (struct fault_file){.real = (sqlite3_file *)(f + 1), .is_wal = flags & SQLITE_OPEN_WAL};
    memset(f->real, 0, (size_t)real_vfs->szOsFile);
    pthread_mutex_lock(&disk.lock);
    if (!disk.is_dead)
        rc = real_vfs->xOpen(real_vfs, name, f->real, flags, out);
    if (rc == SQLITE_OK && disk.is_watched && name && (flags & watched)) {
        f->node = watch(name, was_there);
        if (flags & synced_with_directory)
            f->node->syncs_directory = true;
    }
    pthread_mutex_unlock(&disk.lock);
    if (f->real->pMethods)
        f->base.pMethods = &fault_methods;
    return rc;
}

static int fault_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    struct node *node;
    int rc = SQLITE_IOERR_DELETE;

    (void)vfs;
    pthread_mutex_lock(&disk.lock);
    if (!has_power())
        goto out;
    rc = real_vfs->xDelete(real_vfs, name, sync_directory);
    node = disk.is_watched ? find_node(name) : NULL;
    if (node && node->now.is_there) {
        if (node->now.has_entry)
            node->then = node->now;
        else
            release_inode(&node->now);
        node->now = (struct inode){0};
        if (node->then.is_there && !node->then.changes)
            node->then.end = &node->then.changes;
    }
    if (sync_directory)
        settle_directory();
out:
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

void fault_vfs_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    fault_vfs = *real_vfs;
    fault_vfs.pNext = NULL;
    fault_vfs.zName = "fault";
    fault_vfs.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
    fault_vfs.xOpen = fault_open;
    fault_vfs.xDelete = fault_delete; /* the rest doesn't look at a file */
    sqlite3_vfs_register(&fault_vfs, 1);
}

void fault_none(void)
{
    atomic_store(&fault_writes, -1);
    atomic_store(&fault_write_rc, SQLITE_FULL);
    atomic_store(&fault_write_errno, EIO);
    atomic_store(&fault_wal_writes, -1);
    atomic_store(&fault_one_write, -1);
    atomic_store(&fault_before_page, NULL);
    atomic_store(&fault_shm_locks, -1);
    atomic_store(&fault_syncs, -1);
    atomic_store(&fault_sync_ms, 0);
}
