/* Preloaded into a server: lets writes and syncs of the files below one directory fail.
 *
 * FAILING_DISK_UNDER is the directory, and FAILING_DISK_CONTROL a file elsewhere that says at each
 * call what fails: "<operation> <error> <one in> <seed>", or nothing. The operations:
 *
 *   write  what writes or makes a file longer
 *   torn   the same, but half of the bytes are written before it fails
 *   sync   fsync and fdatasync, which then do nothing
 *   hang   the same, for as long as the file says so
 *
 * Which of the calls fail follows from the seed and their number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct fault {
    char operation[16];
    int error;
    unsigned one_in;
    unsigned long seed;
};

static atomic_ulong calls;

static int is_ours(int fd) {
    const char *under = getenv("FAILING_DISK_UNDER");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!under || length <= 0)
        return 0;
    path[length] = 0;
    size_t prefix = strlen(under);
    return strncmp(path, under, prefix) == 0 && path[prefix] == '/';
}

static struct fault control(void) {
    struct fault fault = {.operation = ""};
    char text[64] = "", error[16] = "";
    const char *path = getenv("FAILING_DISK_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return fault;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0 ||
        sscanf(text, "%15s %15s %u %lu", fault.operation, error, &fault.one_in, &fault.seed) != 4)
        fault.operation[0] = 0;
    fault.error = strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO;
    return fault;
}

static int falls_on_this_call(const struct fault *fault) {
    uint64_t mixed = fault->seed + 0x9E3779B97F4A7C15u * (atomic_fetch_add(&calls, 1) + 1);
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return fault->one_in > 0 && (mixed >> 33) % fault->one_in == 0;
}

/* The bytes of `count` that are still to be written; -1, and errno set, if none are. */
static ssize_t allowed(int fd, size_t count) {
    int before = errno;
    if (!is_ours(fd)) {
        errno = before;
        return count;
    }
    struct fault fault = control();
    int torn = strcmp(fault.operation, "torn") == 0;
    if ((!torn && strcmp(fault.operation, "write") != 0) || !falls_on_this_call(&fault)) {
        errno = before;
        return count;
    }
    if (torn && count > 1) {
        errno = before;
        return count / 2;
    }
    errno = fault.error;
    return -1;
}

static int may_sync(int fd) {
    int before = errno;
    struct fault fault = {.operation = ""};
    if (is_ours(fd))
        fault = control();
    while (strcmp(fault.operation, "hang") == 0) {
        usleep(1000);
        fault = control();
    }
    if (strcmp(fault.operation, "sync") == 0 && falls_on_this_call(&fault)) {
        errno = fault.error;
        return 0;
    }
    errno = before;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t most = allowed(fd, count);
    return most < 0 ? -1 : REAL(write)(fd, bytes, most);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    ssize_t most = allowed(fd, count);
    return most < 0 ? -1 : REAL(pwrite)(fd, bytes, most, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t most = allowed(fd, count);
    return most < 0 ? -1 : REAL(pwrite64)(fd, bytes, most, at);
}

int ftruncate(int fd, off_t length) {
    return allowed(fd, 1) < 0 ? -1 : REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    return allowed(fd, 1) < 0 ? -1 : REAL(ftruncate64)(fd, length);
}

int fallocate(int fd, int mode, off_t at, off_t length) {
    return allowed(fd, 1) < 0 ? -1 : REAL(fallocate)(fd, mode, at, length);
}

int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    return allowed(fd, 1) < 0 ? -1 : REAL(fallocate64)(fd, mode, at, length);
}

int fsync(int fd) {
    return may_sync(fd) ? REAL(fsync)(fd) : -1;
}

int fdatasync(int fd) {
    return may_sync(fd) ? REAL(fdatasync)(fd) : -1;
}
