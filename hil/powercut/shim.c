/* Records what a process does to the files below POWERCUT_ROOT, in the order in which it does it.
 *
 * Loaded with LD_PRELOAD under an unmodified process. Each change of a file, of its size or of a
 * directory, and each flush of either, is appended to POWERCUT_LOG as one record with its bytes.
 * The call and its record are made under one lock, so the log's order is the order of the calls.
 * Memory-mapped writes are not seen: SQLite maps only its -shm file, which it makes anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 4096
#define MAGIC 0x50435554u

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR };

struct head {
    uint32_t magic, kind;
    int32_t pid, fd;
    int64_t at;
    uint32_t path_bytes, other_bytes, data_bytes, flags;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int log_fd = -1;
static pid_t owner;
static unsigned char tracked[MOST_FDS];

#define REAL(type, name) ((type)real_of(#name))
static void *real_of(const char *name) { return dlsym(RTLD_NEXT, name); }

static ssize_t (*real_write)(int, const void *, size_t);

static void fail(const char *what)
{
    dprintf(2, "power-cut recorder: %s: %s\n", what, strerror(errno));
    _exit(97);
}

__attribute__((constructor)) static void begin(void)
{
    const char *below = getenv("POWERCUT_ROOT"), *log = getenv("POWERCUT_LOG");
    real_write = real_of("write");
    if (!below || !log || !realpath(below, root))
        return;
    root_bytes = strlen(root);
    int (*real_open)(const char *, int, ...) = real_of("open");
    int fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(log);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 1000);
    if (log_fd < 0)
        log_fd = fd;
    else
        ((int (*)(int))real_of("close"))(fd);
    owner = getpid();
}

/* The path below root, or NULL; relative to the directory `dirfd`. Symlinks are not followed. */
static const char *below_root(int dirfd, const char *path, char *out)
{
    char joined[PATH_MAX * 2], folder[PATH_MAX];
    if (log_fd < 0 || !path)
        return NULL;
    if (path[0] == '/') {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        if (dirfd == AT_FDCWD) {
            if (!getcwd(folder, sizeof folder))
                return NULL;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t n = readlink(link, folder, sizeof folder - 1);
            if (n < 0)
                return NULL;
            folder[n] = 0;
        }
        snprintf(joined, sizeof joined, "%s/%s", folder, path);
    }
    char *name = strrchr(joined, '/');
    char kept[NAME_MAX + 2];
    snprintf(kept, sizeof kept, "%s", name + 1);
    if (!strcmp(kept, ".") || !strcmp(kept, "..") || !kept[0]) {
        if (!realpath(joined, out))
            return NULL;
    } else {
        *name = 0;
        if (!realpath(name == joined ? "/" : joined, folder))
            return NULL;
        if (snprintf(out, PATH_MAX, "%s/%s", folder, kept) >= PATH_MAX)
            return NULL;
    }
    if (strncmp(out, root, root_bytes) || (out[root_bytes] != '/' && out[root_bytes]))
        return NULL;
    return out[root_bytes] ? out + root_bytes + 1 : ".";
}

static void record(uint32_t kind, int fd, int64_t at, const char *path, const char *other,
                   const struct iovec *data, int parts, uint32_t flags)
{
    struct head head = {MAGIC, kind, getpid(), fd, at, 0, 0, 0, flags};
    struct iovec out[3 + 16];
    int count = 0;
    head.path_bytes = path ? strlen(path) : 0;
    head.other_bytes = other ? strlen(other) : 0;
    out[count++] = (struct iovec){&head, sizeof head};
    out[count++] = (struct iovec){(void *)path, head.path_bytes};
    out[count++] = (struct iovec){(void *)other, head.other_bytes};
    size_t whole = sizeof head + head.path_bytes + head.other_bytes;
    for (int i = 0; i < parts; i++) {
        head.data_bytes += data[i].iov_len;
        whole += data[i].iov_len;
        out[count++] = data[i];
    }
    static ssize_t (*real_writev)(int, const struct iovec *, int);
    if (!real_writev)
        real_writev = real_of("writev");
    if (real_writev(log_fd, out, count) != (ssize_t)whole)
        fail("the log cannot be written");
}

static int is_tracked(int fd) { return log_fd >= 0 && fd >= 0 && fd < MOST_FDS && tracked[fd]; }

static int opened(int dirfd, const char *path, int flags, int mode, int at)
{
    typedef int (*open_t)(const char *, int, ...);
    typedef int (*openat_t)(int, const char *, int, ...);
    static open_t real_open;
    static openat_t real_openat;
    char kept[PATH_MAX];
    if (!real_open) {
        real_openat = REAL(openat_t, openat);
        real_open = REAL(open_t, open);
    }
    pthread_mutex_lock(&lock);
    const char *below = below_root(dirfd, path, kept);
    int fd = at ? real_openat(dirfd, path, flags, mode) : real_open(path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < MOST_FDS && getpid() == owner) {
        tracked[fd] = below != NULL;
        if (below)
            record(OPEN, fd, 0, below, NULL, NULL, 0, (uint32_t)flags);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags, last) \
    int mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode, 0); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode, 0); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags, flags) return opened(dir, path, flags, mode, 1); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags, flags) return opened(dir, path, flags, mode, 1); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, 0); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd)
{
    static int (*real)(int);
    if (!real)
        real = real_of("close");
    /* A child made by vfork shares this memory and closes what it does not own. */
    if (is_tracked(fd) && getpid() == owner)
        tracked[fd] = 0;
    return real(fd);
}

static ssize_t wrote(int fd, const struct iovec *data, int parts, int64_t at, ssize_t done)
{
    struct iovec kept[16];
    size_t left = (size_t)done;
    int i;
    for (i = 0; i < parts && i < 16 && left; i++) {
        kept[i].iov_base = data[i].iov_base;
        kept[i].iov_len = data[i].iov_len < left ? data[i].iov_len : left;
        left -= kept[i].iov_len;
    }
    if (left)
        fail("a write of more parts than expected");
    record(WRITE, fd, at, NULL, NULL, kept, i, 0);
    return done;
}

#define GUARDED(call, after) \
    pthread_mutex_lock(&lock); \
    ssize_t done = (call); \
    int error = errno; \
    if (done > 0) \
        after; \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return done;

ssize_t write(int fd, const void *bytes, size_t count)
{
    if (!is_tracked(fd))
        return real_write(fd, bytes, count);
    struct iovec data = {(void *)bytes, count};
    GUARDED(real_write(fd, bytes, count), wrote(fd, &data, 1, lseek(fd, 0, SEEK_CUR) - done, done))
}

ssize_t writev(int fd, const struct iovec *data, int parts)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real)
        real = real_of("writev");
    if (!is_tracked(fd))
        return real(fd, data, parts);
    GUARDED(real(fd, data, parts), wrote(fd, data, parts, lseek(fd, 0, SEEK_CUR) - done, done))
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = real_of("pwrite64");
    if (!is_tracked(fd))
        return real(fd, bytes, count, at);
    struct iovec data = {(void *)bytes, count};
    GUARDED(real(fd, bytes, count, at), wrote(fd, &data, 1, at, done))
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

ssize_t pwritev64(int fd, const struct iovec *data, int parts, off64_t at)
{
    static ssize_t (*real)(int, const struct iovec *, int, off64_t);
    if (!real)
        real = real_of("pwritev64");
    if (!is_tracked(fd))
        return real(fd, data, parts, at);
    GUARDED(real(fd, data, parts, at), wrote(fd, data, parts, at, done))
}
ssize_t pwritev(int fd, const struct iovec *data, int parts, off_t at) { return pwritev64(fd, data, parts, at); }

#define CHANGED(call, fd, kind, at) \
    pthread_mutex_lock(&lock); \
    int done = (call); \
    int error = errno; \
    if (!done && is_tracked(fd)) \
        record(kind, fd, at, NULL, NULL, NULL, 0, 0); \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return done;

int ftruncate64(int fd, off64_t size) { CHANGED((REAL(int (*)(int, off64_t), ftruncate64))(fd, size), fd, TRUNCATE, size) }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { CHANGED((REAL(int (*)(int), fsync))(fd), fd, SYNC, 0) }
int fdatasync(int fd) { CHANGED((REAL(int (*)(int), fdatasync))(fd), fd, SYNC, 1) }

/* Growth by fallocate reads as zeros, like growth by a truncation to a larger size. */
static void grown(int fd, int64_t end)
{
    struct stat now;
    if (!fstat(fd, &now) && now.st_size >= end)
        record(TRUNCATE, fd, now.st_size, NULL, NULL, NULL, 0, 0);
}
int fallocate64(int fd, int how, off64_t at, off64_t size)
{
    pthread_mutex_lock(&lock);
    int done = (REAL(int (*)(int, int, off64_t, off64_t), fallocate64))(fd, how, at, size);
    int error = errno;
    if (!done && is_tracked(fd) && !how)
        grown(fd, at + size);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int fallocate(int fd, int how, off_t at, off_t size) { return fallocate64(fd, how, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    pthread_mutex_lock(&lock);
    int done = (REAL(int (*)(int, off64_t, off64_t), posix_fallocate64))(fd, at, size);
    if (!done && is_tracked(fd))
        grown(fd, at + size);
    pthread_mutex_unlock(&lock);
    return done;
}
int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned how)
{
    static int (*real)(int, const char *, int, const char *, unsigned);
    char one[PATH_MAX], two[PATH_MAX];
    if (!real)
        real = real_of("renameat2");
    pthread_mutex_lock(&lock);
    const char *source = below_root(from_dir, from, one), *target = below_root(to_dir, to, two);
    int done = real(from_dir, from, to_dir, to, how);
    int error = errno;
    if (!done && (source || target)) {
        if (!source || !target || how)
            fail("a rename into or out of the recorded folder");
        record(RENAME, -1, 0, source, target, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned how) { return renamed(a, from, b, to, how); }

static int removed(int dirfd, const char *path, int flags)
{
    static int (*real)(int, const char *, int);
    char kept[PATH_MAX];
    if (!real)
        real = real_of("unlinkat");
    pthread_mutex_lock(&lock);
    const char *below = below_root(dirfd, path, kept);
    int done = real(dirfd, path, flags);
    int error = errno;
    if (!done && below)
        record(flags & AT_REMOVEDIR ? RMDIR : UNLINK, -1, 0, below, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return removed(dirfd, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int dirfd, const char *path, mode_t mode)
{
    static int (*real)(int, const char *, mode_t);
    char kept[PATH_MAX];
    if (!real)
        real = real_of("mkdirat");
    pthread_mutex_lock(&lock);
    int done = real(dirfd, path, mode);
    int error = errno;
    const char *below = done ? NULL : below_root(dirfd, path, kept);
    if (below)
        record(MKDIR, -1, 0, below, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return made(dirfd, path, mode); }
