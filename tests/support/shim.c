/* Preloaded into a plugin: what the kernel may do and rarely does. SHIM_SHORTEN is where a row of numbers by lot begins:
 * files and pipes are read and written a few bytes at a time. SHIM_JUMP="SECONDS CALLS": the host's clock is so many
 * seconds off from its call of that number on. SHIM_NOTE gets a byte for each call that was changed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t lot;
static _Atomic long looks;
static long jump, first;
static int note = -1;

static ssize_t (*next_read)(int, void *, size_t);
static ssize_t (*next_write)(int, const void *, size_t);
static ssize_t (*next_pread)(int, void *, size_t, off64_t);
static ssize_t (*next_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*next_writev)(int, const struct iovec *, int);
static int (*next_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    next_read = dlsym(RTLD_NEXT, "read");
    next_write = dlsym(RTLD_NEXT, "write");
    next_pread = dlsym(RTLD_NEXT, "pread64");
    next_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    next_writev = dlsym(RTLD_NEXT, "writev");
    next_clock = dlsym(RTLD_NEXT, "clock_gettime");
    const char *text = getenv("SHIM_NOTE");
    note = text ? open(text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    text = getenv("SHIM_SHORTEN");
    lot = text ? strtoull(text, NULL, 10) : 0;
    char *rest = NULL;
    text = getenv("SHIM_JUMP");
    jump = text ? strtol(text, &rest, 10) : 0;
    first = rest ? strtol(rest, NULL, 10) : 0;
}

static void changed(void) {
    if (note >= 0 && next_write(note, "x", 1) < 0)
        note = -1;
}

/* Files without a size are the kernel's own, which are read as a whole; a stream's part would say that there is no more. */
static int may_be_cut(int fd) {
    struct stat is;
    return fstat(fd, &is) == 0 && (S_ISFIFO(is.st_mode) || (S_ISREG(is.st_mode) && is.st_size > 0));
}

static size_t some(int fd, size_t length) {
    if (!lot || length < 2 || fd == note || !may_be_cut(fd))
        return length;
    lot = lot * 6364136223846793005u + 1442695040888963407u;
    uint64_t number = lot >> 33;
    size_t most = number & 1 || length < 16 ? length - 1 : 15;
    changed();
    return 1 + (number >> 1) % most;
}

ssize_t read(int fd, void *into, size_t length) {
    return next_read(fd, into, some(fd, length));
}

ssize_t write(int fd, const void *from, size_t length) {
    return next_write(fd, from, some(fd, length));
}

ssize_t pread64(int fd, void *into, size_t length, off64_t at) {
    return next_pread(fd, into, some(fd, length), at);
}

ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
    return next_pwrite(fd, from, some(fd, length), at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (lot && count > 0 && may_be_cut(fd))
        return write(fd, parts[0].iov_base, parts[0].iov_len);
    return next_writev(fd, parts, count);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = next_clock(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && jump && ++looks > first) {
        time->tv_sec += jump;
        changed();
    }
    return result;
}
