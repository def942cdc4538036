/* A disk on which chosen calls fail, for a process that is started with this in LD_PRELOAD and CWLOGS_FAULTS naming a file of 8192
 * bytes. The file is mapped, so it steers the process while it runs:
 *
 *   byte 0          1 while anything fails
 *   byte 8 and on   how many calls failed, as the machine's 64-bit number
 *   byte 64 and on  lines "CALL ERRNO PART": CALL fails with ERRNO on files whose path holds PART, or ends in it where PART ends in
 *                   a dollar sign; a NUL ends them
 *
 * CALL is open, read, write, cut, sync, rename, remove, mkdir, stat or space. A failing sync has written nothing, and a failing write not a
 * byte. Where ERRNO is -1 the disk stands still: the call waits until nothing fails any more, and then goes on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define SIZE 8192
#define LINES 64

static volatile char *faults;

__attribute__((constructor)) static void map_faults(void) {
    const char *path = getenv("CWLOGS_FAULTS");
    if (!path) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) faults = at;
}

static int meets(const char *path, char *part) {
    size_t len = strlen(part), all = strlen(path);
    if (!len || part[len - 1] != '$') return strstr(path, part) != NULL;
    len--;
    return all >= len && !strncmp(path + all - len, part, len);
}

/* The errno with which this call on this path fails; 0 if it doesn't. */
static int failure(const char *call, const char *path) {
    if (!faults || !faults[0] || !path) return 0;
    char lines[SIZE - LINES + 1];
    memcpy(lines, (const char *)faults + LINES, SIZE - LINES);
    lines[SIZE - LINES] = 0;
    char *rest = lines, *line;
    while ((line = strtok_r(rest, "\n", &rest))) {
        char name[32], part[256];
        int number;
        if (sscanf(line, "%31s %d %255s", name, &number, part) != 3) continue;
        if (strcmp(name, call) || !meets(path, part)) continue;
        __atomic_fetch_add((uint64_t *)(uintptr_t)(faults + 8), 1, __ATOMIC_SEQ_CST);
        return number;
    }
    return 0;
}

static int failure_of(const char *call, int fd) {
    if (!faults || !faults[0]) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return failure(call, path);
}

#define REAL(type, name, ...)                                                                                                  \
    static type (*real)(__VA_ARGS__);                                                                                          \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define FAIL(number)                                                                                                           \
    do {                                                                                                                       \
        int failed = (number);                                                                                                 \
        while (failed < 0 && faults[0]) usleep(10000);                                                                         \
        if (failed > 0) {                                                                                                        \
            errno = failed;                                                                                                    \
            return -1;                                                                                                         \
        }                                                                                                                      \
    } while (0)

static mode_t mode_of(int flags, va_list rest) { return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name)                                                                                                             \
    int name(const char *path, int flags, ...) {                                                                               \
        REAL(int, #name, const char *, int, ...);                                                                              \
        va_list rest;                                                                                                          \
        va_start(rest, flags);                                                                                                 \
        mode_t mode = mode_of(flags, rest);                                                                                    \
        va_end(rest);                                                                                                          \
        FAIL(failure("open", path));                                                                                           \
        return real(path, flags, mode);                                                                                        \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                           \
    int name(int dir, const char *path, int flags, ...) {                                                                      \
        REAL(int, #name, int, const char *, int, ...);                                                                         \
        va_list rest;                                                                                                          \
        va_start(rest, flags);                                                                                                 \
        mode_t mode = mode_of(flags, rest);                                                                                    \
        va_end(rest);                                                                                                          \
        FAIL(failure("open", path));                                                                                           \
        return real(dir, path, flags, mode);                                                                                   \
    }
OPENAT(openat)
OPENAT(openat64)

#define PREAD(name)                                                                                                            \
    ssize_t name(int fd, void *to, size_t size, off_t at) {                                                                    \
        REAL(ssize_t, #name, int, void *, size_t, off_t);                                                                      \
        FAIL(failure_of("read", fd));                                                                                          \
        return real(fd, to, size, at);                                                                                         \
    }
PREAD(pread)
PREAD(pread64)

#define PWRITE(name)                                                                                                           \
    ssize_t name(int fd, const void *from, size_t size, off_t at) {                                                            \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);                                                                \
        FAIL(failure_of("write", fd));                                                                                         \
        return real(fd, from, size, at);                                                                                       \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *from, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    FAIL(failure_of("write", fd));
    return real(fd, from, size);
}

#define SPACE(name)                                                                                                            \
    int name(const char *path, struct name *to) {                                                                              \
        REAL(int, #name, const char *, struct name *);                                                                         \
        FAIL(failure("space", path));                                                                                          \
        return real(path, to);                                                                                                 \
    }
SPACE(statvfs)
SPACE(statvfs64)

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *to) {
    REAL(int, "statx", int, const char *, int, unsigned, struct statx *);
    FAIL(path && *path ? failure("stat", path) : failure_of("stat", dir));
    return real(dir, path, flags, mask, to);
}

#define CUT(name)                                                                                                              \
    int name(int fd, off_t len) {                                                                                              \
        REAL(int, #name, int, off_t);                                                                                          \
        FAIL(failure_of("cut", fd));                                                                                           \
        return real(fd, len);                                                                                                  \
    }
CUT(ftruncate)
CUT(ftruncate64)

#define SYNC(name)                                                                                                             \
    int name(int fd) {                                                                                                         \
        REAL(int, #name, int);                                                                                                 \
        FAIL(failure_of("sync", fd));                                                                                          \
        return real(fd);                                                                                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    FAIL(failure("rename", from));
    return real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    FAIL(failure("remove", path));
    return real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    FAIL(failure("mkdir", path));
    return real(path, mode);
}
