#include "base/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

static int send_to(const char *name, const char *state)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t len = strlen(name);
    int fd;

    if (len >= sizeof(to.sun_path) || (name[0] != '/' && name[0] != '@')) {
        errno = EINVAL;
        return -1;
    }
    memcpy(to.sun_path, name, len);
    if (name[0] == '@') /* no file: such a name begins with a zero byte */
        to.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    len += offsetof(struct sockaddr_un, sun_path);
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                          (socklen_t)len);
    int why = errno;
    close(fd);
    errno = why;
    return sent < 0 ? -1 : 0;
}

void notify(const char *state)
{
    const char *name = getenv("NOTIFY_SOCKET");

    if (name && name[0] && send_to(name, state) < 0)
        log_warn("notify", "socket=%s state=%s why=\"%s\"", name, state, strerror(errno));
}
