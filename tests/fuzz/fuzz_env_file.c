/* SPDX-License-Identifier: MIT */
/* An env file of any bytes. */
#include "app/env_file.h"

#include <assert.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd;
    char path[SCRATCH_PATH_MAX];
    struct env_file *file = NULL;
    struct err err;
    int line;

    scratch_file(&fd, data, size, path);
    if (env_file_read(&file, path, &err) < 0) {
        assert(strncmp(err.text, path, strlen(path)) == 0);
        return 0;
    }
    for (size_t i = 0; i < env_file_count(file); i++) {
        const char *key = env_file_at(file, i, &line);

        assert(line > 0 && key[0]);
        assert(env_file_get(file, key, &line) != NULL);
    }
    env_file_free(file);
    return 0;
}
