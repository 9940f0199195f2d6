/* Resolves a name, connects to its port 80 and prints the page: what a program linked against musl does. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(argv[1], "80", &hints, &found);
    if (failed) {
        fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(failed));
        return 1;
    }
    for (struct addrinfo *each = found; each; each = each->ai_next) {
        int stream = socket(each->ai_family, each->ai_socktype, each->ai_protocol);
        if (stream < 0 || connect(stream, each->ai_addr, each->ai_addrlen) != 0) {
            perror("connect");
            continue;
        }
        char request[300], page[4096];
        int length = snprintf(request, sizeof request, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
        if (write(stream, request, length) != length)
            return 1;
        for (ssize_t got; (got = read(stream, page, sizeof page)) > 0;)
            fwrite(page, 1, got, stdout);
        return 0;
    }
    return 1;
}
