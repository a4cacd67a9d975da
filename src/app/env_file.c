/* SPDX-License-Identifier: MIT */
#include "app/env_file.h"

#include "crypto/hmac.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *key;
    char *value;
    int line;
};

struct env_file {
    char *path;
    struct entry *entries;
    size_t count;
};

static int fail(const struct env_file *file, int line, struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s:%d: %s", file->path, line, what);
}

static int add_entry(struct env_file *file, const char *key, size_t key_len, const char *value,
                     int line, struct err *err)
{
    struct entry *entries = realloc(file->entries, (file->count + 1) * sizeof(*entries));
    struct entry *entry;

    if (!entries)
        return err_set(err, ERR_NOMEM, "no memory for '%s'", file->path);
    file->entries = entries;
    entry = &entries[file->count];
    *entry = (struct entry){strndup(key, key_len), strdup(value), line};
    if (!entry->key || !entry->value) {
        free(entry->key);
        free(entry->value);
        return err_set(err, ERR_NOMEM, "no memory for '%s'", file->path);
    }
    file->count++;
    return 0;
}

static size_t key_length(const char *text)
{
    size_t len = 0;

    if (isdigit((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[len]) || text[len] == '_')
        len++;
    return len;
}

/* Take the quotes off in place; false when the closing one is missing or something follows it. */
static bool unquote(char *value)
{
    char quote = value[0], *from = value + 1, *to = value;

    for (; *from && *from != quote; from++) {
        if (quote == '"' && *from == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        *to++ = *from;
    }
    if (*from != quote || from[1] != '\0')
        return false;
    *to = '\0';
    return true;
}

static int read_line(struct env_file *file, char *text, int line, struct err *err)
{
    size_t len = strlen(text), key_len;
    char *value;

    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    while (isspace((unsigned char)*text))
        text++;
    if (*text == '\0' || *text == '#')
        return 0;
    if (strncmp(text, "export ", 7) == 0)
        text += 7 + strspn(text + 7, " \t");
    key_len = key_length(text);
    if (key_len == 0 || text[key_len] != '=')
        return fail(file, line, err, "this isn't KEY=value (no spaces around the '=')");
    value = text + key_len + 1;
    if ((*value == '"' || *value == '\'') && !unquote(value))
        return fail(file, line, err, "the value's quotes don't match");
    return add_entry(file, text, key_len, value, line, err);
}

int env_file_read(struct env_file **out, const char *path, struct err *err)
{
    struct env_file *file = calloc(1, sizeof(*file));
    FILE *stream = NULL;
    char *line = NULL;
    size_t size = 0;
    int number = 0, rc = 0;

    if (!file || !(file->path = strdup(path))) {
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", path);
        goto out;
    }
    stream = fopen(path, "re");
    if (!stream) {
        rc = err_errno(err, ERR_IO, "--env-file: cannot open '%s'", path);
        goto out;
    }
    while (rc == 0 && getline(&line, &size, stream) >= 0)
        rc = read_line(file, line, ++number, err);
    if (rc == 0 && ferror(stream))
        rc = err_errno(err, ERR_IO, "--env-file: cannot read '%s'", path);
out:
    if (line)
        crypto_wipe(line, size);
    free(line);
    if (stream)
        fclose(stream);
    if (rc < 0) {
        env_file_free(file);
        return rc;
    }
    *out = file;
    return 0;
}

void env_file_free(struct env_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->count; i++) {
        crypto_wipe(file->entries[i].value, strlen(file->entries[i].value));
        free(file->entries[i].key);
        free(file->entries[i].value);
    }
    free(file->entries);
    free(file->path);
    free(file);
}

const char *env_file_path(const struct env_file *file)
{
    return file->path;
}

const char *env_file_get(const struct env_file *file, const char *key, int *out_line)
{
    for (size_t i = file ? file->count : 0; i > 0; i--) {
        if (strcmp(file->entries[i - 1].key, key) == 0) {
            *out_line = file->entries[i - 1].line;
            return file->entries[i - 1].value;
        }
    }
    return NULL;
}

size_t env_file_count(const struct env_file *file)
{
    return file ? file->count : 0;
}

const char *env_file_at(const struct env_file *file, size_t i, int *out_line)
{
    *out_line = file->entries[i].line;
    return file->entries[i].key;
}
