/* SPDX-License-Identifier: MIT */
/*
 * start - how long a server takes from its exec to its first 200.
 *
 *     start PORT PATH COMMAND ARGUMENT…
 *
 * Runs the command, asks for PATH without a pause until there is a 200, and prints the milliseconds.
 * Then the server is ended by SIGTERM, and waited for. What it says goes to standard error.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GIVE_UP_S = 120, PAUSE_US = 100 };

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static bool is_up(int port, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char text[512] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int len = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    bool up = false;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        write(fd, text, (size_t)len) == len && read(fd, text, sizeof(text)) > 12)
        up = strncmp(text, "HTTP/1.1 200", 12) == 0;
    close(fd);
    return up;
}

int main(int argc, char **argv)
{
    double start_ms;
    int status, port;
    pid_t child;

    if (argc < 4) {
        fputs("usage: start PORT PATH COMMAND ARGUMENT…\n", stderr);
        return 2;
    }
    port = atoi(argv[1]);
    start_ms = now_ms();
    child = fork();
    if (child == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    while (!is_up(port, argv[2])) {
        if (waitpid(child, &status, WNOHANG) == child || now_ms() > start_ms + GIVE_UP_S * 1e3) {
            fprintf(stderr, "start: %s did not answer on port %d\n", argv[3], port);
            kill(child, SIGKILL);
            return 1;
        }
        usleep(PAUSE_US);
    }
    printf("%.2f\n", now_ms() - start_ms);
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    return 0;
}
