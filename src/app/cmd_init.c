/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/advice.h"
#include "base/text.h"

#include <embedded_lua.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SETTINGS_MAX = 65536 };

/* ---------------------------------------------------------------------------------- the env file */

/* What has to come from WorkOS: where it is to be found there, and what it is for. */
static const struct {
    const char *variable, *comment;
} hints[] = {
    {"WORKOS_WEBHOOK_SECRET",
     "# The signing secret of your webhook endpoint, whsec_…: in WorkOS's dashboard under "
     "Webhooks,\n"
     "# at the endpoint. Without it no webhook is taken. \"authkitd setup https://your-host "
     "--write\n"
     "# authkitd.env\" makes the endpoint and fills this in, by the API key below.\n"},
    {"WORKOS_ACTION_SECRET", "# The signing secret of your actions: in the dashboard under "
                             "Authentication, Actions. Leave it\n"
                             "# empty when WorkOS needn't ask you who may register or sign in.\n"},
    {"WORKOS_API_KEY",
     "# A key for WorkOS's API, sk_…: in the dashboard under API Keys. With it missed events are\n"
     "# fetched; backfill and setup need it.\n"},
    {"WORKOS_CLIENT_ID",
     "# The id of your application, client_…: in the dashboard under API Keys, beside the key. It\n"
     "# is needed to know your users by their access tokens.\n"},
};

static const char *hint_of(const char *variable)
{
    for (size_t i = 0; i < ARRAY_LEN(hints); i++)
        if (strcmp(hints[i].variable, variable) == 0)
            return hints[i].comment;
    return NULL;
}

/* The help's words, behind what stands for the value there: its unit, or the words that it may be. */
static void put_sentence(struct buf *out, const struct config_option *option)
{
    buf_printf(out, "# %s: %s.\n", option->argument ? option->argument : "true|false",
               option->help);
}

static const char *default_of(const struct config_option *option)
{
    if (option->fallback)
        return option->fallback;
    return option->argument ? "" : "false"; /* a flag */
}

static void put_setting(struct buf *out, const struct config_option *option)
{
    const char *hint = hint_of(option->variable);

    if (hint) {
        buf_printf(out, "\n%s%s=\n", hint, option->variable);
        return;
    }
    buf_putc(out, '\n');
    put_sentence(out, option);
    buf_printf(out, "#%s=%s\n", option->variable, default_of(option));
}

/* Of the settings of serve those with a hint, or those without. */
static void put_settings(struct buf *out, bool with_hint)
{
    struct config_option option;

    for (size_t i = 0; config_option_at(i, &option); i++)
        if ((option.commands & FOR_SERVE) && option.variable &&
            (hint_of(option.variable) != NULL) == with_hint)
            put_setting(out, &option);
}

static void put_env_file(struct buf *out)
{
    buf_puts(
        out,
        "# Settings of authkitd: authkitd serve --env-file authkitd.env\n"
        "#\n"
        "# Lines of KEY=value. The environment wins over this file, and an option over both. It\n"
        "# has secrets: keep it to yourself, and out of version control. Each of them may also\n"
        "# stand in a file of its own: WORKOS_API_KEY_FILE=/path, and so on.\n"
        "\n"
        "# ---- to fill in. To try it without WorkOS any word will do for the first two: what\n"
        "# \"authkitd send\" sends is signed with it, too.\n");
    put_settings(out, true);
    buf_puts(out,
             "\n# ---- to change when you want to: take the '#' away. What stands there is the "
             "default.\n");
    put_settings(out, false);
}

/* ---------------------------------------------------------------------------------- writing */

/*
 * What is made here is for a service as a rule, which has a user of its own: that one has to read the script,
 * whatever root's umask is (077 is common), and nobody else may write it. What can't be changed (on a FAT disk,
 * say) stays.
 */
enum { FOLDER_MODE = 0755, SCRIPT_MODE = 0644, SETTINGS_MODE = 0600 };

static int make_one_folder(const char *path)
{
    struct stat st;
    int fd;

    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : -1;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) /* one that hands on its group goes on doing so */
        (void)!fchmod(fd, (st.st_mode & 07000) | FOLDER_MODE);
    if (fd >= 0)
        close(fd);
    return 0;
}

/* Like mkdir -p. */
static int make_folder(const char *path, struct err *err)
{
    char part[PATH_MAX];
    struct stat st;

    for (size_t len = 1; path[len - 1] != '\0'; len++) {
        if (path[len] != '/' && path[len] != '\0')
            continue;
        snprintf(part, sizeof(part), "%.*s", (int)len, path);
        if (make_one_folder(part) < 0)
            return err_errno(err, ERR_IO, "cannot make the folder '%s'", part);
    }
    if (stat(path, &st) < 0)
        return err_errno(err, ERR_IO, "cannot use '%s'", path);
    return S_ISDIR(st.st_mode) ? 0 : err_set(err, ERR_IO, "'%s' is no folder", path);
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0)
            return -1;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd);
}

/* ERR_CONFLICT: something of that name is there, and stays as it is. */
static int write_new(const char *path, mode_t mode, const char *text, size_t len, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0 && errno == EEXIST)
        return err_set(err, ERR_CONFLICT, "%s is there already, and was left as it is", path);
    if (fd < 0)
        return err_errno(err, ERR_IO, "cannot write '%s'", path);
    (void)!fchmod(fd, mode);
    if (write_all(fd, text, len) < 0) {
        rc = err_errno(err, ERR_IO, "cannot write '%s'", path);
        unlink(path);
    }
    close(fd);
    return rc;
}

/* ---------------------------------------------------------------------------------- the command */

/* How this program was called, so that it can be called so again from another folder. */
static void put_program(struct buf *out)
{
    char *real =
        strchr(program_invocation_name, '/') ? realpath(program_invocation_name, NULL) : NULL;

    advice_put_shell_word(out, real ? real : program_invocation_name);
    free(real);
}

static void print_next(const char *folder)
{
    struct buf text = BUF_INIT(65536), program = BUF_INIT(65536);

    put_program(&program);
    buf_puts(&text, "\nNext:\n");
    if (strcmp(folder, ".") != 0) {
        buf_puts(&text, "  cd ");
        advice_put_shell_word(&text, folder);
        buf_putc(&text, '\n');
    }
    buf_puts(&text, "  ${EDITOR:-vi} " ADVICE_ENV_FILE "   # fill in the secrets\n");
    buf_printf(&text, "  %s check --env-file " ADVICE_ENV_FILE "   # is anything missing?\n",
               buf_text(&program));
    buf_printf(&text, "  %s serve --env-file " ADVICE_ENV_FILE "   # start it\n",
               buf_text(&program));
    fputs(buf_text(&text), stdout);
    buf_release(&text);
    buf_release(&program);
}

/* Whether the file is now there as it should be: 0, or 1 after a complaint. */
static int write_file(const char *folder, const char *name, mode_t mode, const char *text,
                      size_t len, const char *word)
{
    char path[PATH_MAX + 64];
    struct err err;

    if (strcmp(folder, ".") == 0)
        snprintf(path, sizeof(path), "%s", name);
    else
        snprintf(path, sizeof(path), "%s%s%s", folder, text_ends_with(folder, "/") ? "" : "/",
                 name);
    if (write_new(path, mode, text, len, &err) < 0) {
        fflush(stdout);
        command_complain(err.text);
        return 1;
    }
    printf("wrote %s: %s\n", path, word);
    return 0;
}

static int init(const struct config *config)
{
    const char *folder = config->operand_count ? config->operands[0] : ".";
    struct buf settings = BUF_INIT(SETTINGS_MAX);
    struct err err;
    int problems = 0;

    if (!*folder || strlen(folder) >= PATH_MAX) {
        command_complain("init wants the name of a folder, or none for this one");
        return EXIT_USAGE;
    }
    if (make_folder(folder, &err) < 0) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    put_env_file(&settings);
    problems += write_file(folder, "handlers.lua", SCRIPT_MODE, embedded_lua_example.text,
                           embedded_lua_example.len, "your functions, a start to change");
    problems += write_file(folder, ADVICE_ENV_FILE, SETTINGS_MODE, buf_text(&settings),
                           settings.len, "the settings; only you can read it");
    buf_release(&settings);
    if (problems > 0)
        return EXIT_FAILED;
    print_next(folder);
    return EXIT_FINE;
}

const struct command cmd_init = {
    .name = "init",
    .operand = "[FOLDER]",
    .summary = "write a handlers.lua and an env file to start from",
    .about =
        "They go into FOLDER, which is made when it isn't there, or into this one. A file that "
        "is there\nalready stays as it is.",
    .options = FOR_INIT,
    .run = init,
};
