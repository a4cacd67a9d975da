/* SPDX-License-Identifier: MIT */
/*
 * replay_main - runs a fuzzer's function over the files of its corpus, without libFuzzer.
 *
 * usage: replay_<name> DIRECTORY…     every file directly in the directories, once each
 *
 * So what a fuzzer has found stays a test of every build. Each input is given as a block of exactly
 * its size, so that a sanitizer sees the first byte that is read behind it. An empty corpus is a
 * failure: it would be a test that tests nothing.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exits when the file can't be read: half a corpus must not pass for a whole one. */
static uint8_t *read_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);

    if (!file || !data || fread(data, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return data;
}

static unsigned replay_directory(const char *directory)
{
    struct dirent **entries;
    unsigned count = 0;
    int n = scandir(directory, &entries, NULL, alphasort);

    if (n < 0) {
        perror(directory);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat info;

        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        free(entries[i]);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            uint8_t *data = read_file(path, (size_t)info.st_size);

            LLVMFuzzerTestOneInput(data, (size_t)info.st_size);
            free(data);
            count++;
        }
    }
    free(entries);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++)
        count += replay_directory(argv[i]);
    printf("%u inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
