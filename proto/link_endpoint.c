/* Endpoints as text: which are allowed. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/link_socket.h"

static bool loopback(const char *host, size_t len)
{
    static const char *const names[] = { "localhost", "[::1]", "::1" };
    char text[INET_ADDRSTRLEN];
    struct in_addr addr;

    /* Read as an address: 127.example.org is somebody else's name. */
    snprintf(text, sizeof(text), "%.*s", (int)len, host);
    if (len < sizeof(text) && inet_pton(AF_INET, text, &addr) == 1)
        return ntohl(addr.s_addr) >> 24 == 127;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (len == strlen(names[i]) && strncmp(host, names[i], len) == 0)
            return true;
    return false;
}

int link_endpoint_check(const char *endpoint, bool encrypted, struct err *err)
{
    const char *colon = strrchr(endpoint, ':');

    if (strncmp(endpoint, "ipc://", 6) == 0) {
        size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
        if (strlen(endpoint + 6) == 0 || strlen(endpoint + 6) > max)
            return err_set(err, 2, "%s: a socket's path has 1 to %zu bytes", endpoint,
                           max);
        return 0;
    }
    if (strncmp(endpoint, "tcp://", 6) != 0 || colon < endpoint + 6) {
        err_set(err, 2, "not an endpoint: '%s'", endpoint);
        return err_hint(err, "ipc:///run/tidemill/socket or tcp://127.0.0.1:7600");
    }
    if (!encrypted && !link_endpoint_is_loopback(endpoint)) {
        err_set(err, 2, "%s is not loopback: it cannot be used without encryption",
                endpoint);
        return err_hint(err, "leave out --plain");
    }
    return 0;
}

bool link_endpoint_is_loopback(const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');

    return strncmp(endpoint, "tcp://", 6) == 0 && colon >= endpoint + 6 &&
           loopback(endpoint + 6, (size_t)(colon - endpoint - 6));
}

void link_endpoint_unmap(char *endpoint, size_t size)
{
    char host[INET_ADDRSTRLEN];
    unsigned port;

    if (sscanf(endpoint, "tcp://[::ffff:%15[0-9.]]:%u", host, &port) == 2)
        snprintf(endpoint, size, "tcp://%s:%u", host, port);
}

bool link_somebody_listens(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes;

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    yes = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}
