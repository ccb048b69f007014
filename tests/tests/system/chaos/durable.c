/* Loaded into a program before its own libraries: keeps, beside a folder, what of it would survive a power cut.
 *
 * POSIX promises of a file only what was there when it was last synced, and of a folder only the names that were there when
 * the folder was last synced. So: when a file below DURABLE_OF is synced, its bytes are copied to DURABLE_AT/f-<identity>;
 * when a folder is synced, its names are written to DURABLE_AT/d-<identity>, a line "<type> <identity> <name>" each. An
 * identity is the inode's number and moment of birth, since numbers are used again. Whoever rebuilds the folder starts
 * with the identity of DURABLE_OF itself.
 *
 * Programs that sync by other means than fsync and fdatasync are not understood, nor is O_SYNC; nothing here uses them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int identity(int dir, const char *name, int flags, char *out, size_t size, unsigned *mode) {
    struct statx about;
    if (statx(dir, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &about) != 0) return -1;
    snprintf(out, size, "%llu-%lld.%09u", (unsigned long long)about.stx_ino, (long long)about.stx_btime.tv_sec,
             about.stx_btime.tv_nsec);
    *mode = about.stx_mode;
    return 0;
}

static int is_below(int fd, const char *root) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(root);
    return strncmp(path, root, prefix) == 0 && (path[prefix] == 0 || path[prefix] == '/');
}

/* Whole or not at all, like everything that is renamed into place. */
static int publish(int fd, const char *fresh, const char *at, const char *kind, const char *id) {
    char path[PATH_MAX];
    close(fd);
    snprintf(path, sizeof path, "%s/%s-%s", at, kind, id);
    return rename(fresh, path);
}

static void keep(int fd) {
    const char *root = getenv("DURABLE_OF"), *at = getenv("DURABLE_AT");
    char id[64], fresh[PATH_MAX], link[64];
    unsigned mode;
    if (!root || !at || !is_below(fd, root) || identity(fd, "", AT_EMPTY_PATH, id, sizeof id, &mode) != 0) return;
    snprintf(fresh, sizeof fresh, "%s/new-%ld-%d", at, syscall(SYS_gettid), fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0) abort();
    if (S_ISDIR(mode)) {
        DIR *entries = opendir(link);
        if (!entries) abort();
        for (struct dirent *entry; (entry = readdir(entries));) {
            char child[64];
            unsigned type;
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
            if (identity(dirfd(entries), entry->d_name, 0, child, sizeof child, &type) != 0) continue;
            dprintf(to, "%c %s %s\n", S_ISDIR(type) ? 'd' : 'f', child, entry->d_name);
        }
        closedir(entries);
        publish(to, fresh, at, "d", id);
    } else {
        static __thread char buffer[1 << 16];
        int from = open(link, O_RDONLY);
        if (from < 0) abort();
        for (ssize_t got; (got = read(from, buffer, sizeof buffer)) > 0;)
            for (ssize_t done = 0; done < got;) {
                ssize_t written = write(to, buffer + done, (size_t)(got - done));
                if (written < 0) abort();
                done += written;
            }
        close(from);
        publish(to, fresh, at, "f", id);
    }
}

static int sync_with(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int answer = real(fd), error = errno;
    if (answer == 0) keep(fd);
    errno = error;
    return answer;
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
