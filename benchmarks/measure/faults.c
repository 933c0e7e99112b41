/* Fails, or kills the process at, the n-th call that changes a file below a folder.
 *
 * Loaded before all other libraries, so Python, SQLite and libsndfile alike pass here. Built by faults.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;
static long first = -1;
static int wrong;
static char below[4096];

/* From the `at`-th call on: killed there if `error` is 0, failing with `error` otherwise. At 0 it only counts. */
void faults_arm(long at, int error, const char *folder) {
    strncpy(below, folder, sizeof below - 1);
    calls = 0;
    wrong = error;
    first = at;
}

void faults_disarm(void) { first = -1; }
long faults_calls(void) { return calls; }

static int is_below(const char *path) {
    char whole[8192];
    if (path[0] != '/') {
        char here[4096];
        if (getcwd(here, sizeof here) == NULL) return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strncmp(path, below, strlen(below)) == 0;
}

static int is_open_below(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return is_below(path);
}

/* 1 if this call is the one to be killed in, 2 if it fails. */
static int struck(int there) {
    if (first < 0 || !there) return 0;
    long now = ++calls;
    if (first == 0 || now < first) return 0;
    if (wrong == 0) return now == first;
    errno = wrong;
    return 2;
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define STRIKE(there) do { int how = struck(there); if (how == 1) die(); if (how == 2) return -1; } while (0)
#define FREES(there) do { if (wrong == 0 || wrong == EROFS) STRIKE(there); } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT)) STRIKE(first >= 0 && is_below(path)); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT)) STRIKE(first >= 0 && is_below(path)); \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* A write that is killed leaves half of its bytes. */
#define WRITE(name, arguments, passed, half) \
    ssize_t name arguments { \
        REAL(name); \
        int how = struck(first >= 0 && is_open_below(file)); \
        if (how == 1) { size /= 2; if (size) (void)!real half; die(); } \
        return how == 2 ? -1 : real passed; \
    }
WRITE(write, (int file, const void *bytes, size_t size), (file, bytes, size), (file, bytes, size))
WRITE(pwrite, (int file, const void *bytes, size_t size, off_t at), (file, bytes, size, at), (file, bytes, size, at))
WRITE(pwrite64, (int file, const void *bytes, size_t size, off64_t at), (file, bytes, size, at), (file, bytes, size, at))

int rename(const char *from, const char *to) { REAL(rename); STRIKE(first >= 0 && is_below(to)); return real(from, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2); STRIKE(first >= 0 && is_below(to)); return real(a, from, b, to, flags);
}
int mkdir(const char *path, mode_t mode) { REAL(mkdir); STRIKE(first >= 0 && is_below(path)); return real(path, mode); }
int unlink(const char *path) { REAL(unlink); FREES(first >= 0 && is_below(path)); return real(path); }
int rmdir(const char *path) { REAL(rmdir); FREES(first >= 0 && is_below(path)); return real(path); }
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    FREES(first >= 0 && (folder == AT_FDCWD ? is_below(path) : is_open_below(folder)));
    return real(folder, path, flags);
}
int ftruncate(int file, off_t size) { REAL(ftruncate); STRIKE(first >= 0 && is_open_below(file)); return real(file, size); }
int ftruncate64(int file, off64_t size) { REAL(ftruncate64); STRIKE(first >= 0 && is_open_below(file)); return real(file, size); }
int fsync(int file) { REAL(fsync); STRIKE(first >= 0 && is_open_below(file)); return real(file); }
int fdatasync(int file) { REAL(fdatasync); STRIKE(first >= 0 && is_open_below(file)); return real(file); }
