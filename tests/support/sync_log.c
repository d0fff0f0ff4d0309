/* Preloaded: a line in $SYNC_LOG for each file that is synced, renamed or removed, before it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void note(const char *what, const char *path) {
    char line[8192];
    const char *log = getenv("SYNC_LOG");
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    int file = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file >= 0 && length > 0 && write(file, line, (size_t)length) != length)
        abort();
    if (file >= 0)
        close(file);
}

int fsync(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    note("sync", path);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int rename(const char *from, const char *to) {
    note("rename", to);
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int unlink(const char *path) {
    note("remove", path);
    return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}
