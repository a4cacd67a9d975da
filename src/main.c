/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct command *const commands[] = {
    &cmd_init,     &cmd_serve, &cmd_check,      &cmd_send,      &cmd_reload,
    &cmd_events,   &cmd_retry, &cmd_backfill,   &cmd_reconcile, &cmd_backup,
    &cmd_maintain, &cmd_setup, &cmd_completion, &cmd_version,   &cmd_help,
};
const size_t command_count = ARRAY_LEN(commands);

static void print_help(void)
{
    struct buf text = BUF_INIT(65536);

    buf_puts(&text,
             "authkitd keeps a copy of your WorkOS users in SQLite and runs your Lua functions "
             "for\nWorkOS's events and actions.\n\nusage: authkitd [COMMAND] [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        buf_printf(&text, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    buf_puts(&text, "\nauthkitd COMMAND --help tells more. Options of serve:\n\n");
    config_put_options(&text, FOR_SERVE);
    fputs(buf_text(&text), stdout);
    buf_release(&text);
}

static void print_help_of(const struct command *command)
{
    struct buf text = BUF_INIT(65536);

    buf_printf(&text, "usage: authkitd %s%s%s%s\n\n%s\n", command->name,
               command->operand ? " " : "", command->operand ? command->operand : "",
               config_has_options(command->options) ? " [OPTIONS]" : "", command->summary);
    if (*command->about)
        buf_printf(&text, "%s\n", command->about);
    if (config_has_options(command->options)) {
        buf_putc(&text, '\n');
        config_put_options(&text, command->options);
    }
    fputs(buf_text(&text), stdout);
    buf_release(&text);
}

void command_print_help(const struct command *command)
{
    if (command)
        print_help_of(command);
    else
        print_help();
}

void command_complain(const char *text)
{
    for (bool first = true; *text; first = false) {
        size_t len = strcspn(text, "\n");

        fprintf(stderr, "%s%.*s\n", first ? "authkitd: " : "  ", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

static int complain_of_usage(const char *text, const char *command)
{
    command_complain(text);
    fprintf(stderr, "try authkitd %s%s--help\n", command, *command ? " " : "");
    return EXIT_USAGE;
}

static void complain_of_command(const char *name)
{
    const char *names[ARRAY_LEN(commands)], *closest;
    char text[256];

    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i]->name;
    closest = text_closest(name, names, ARRAY_LEN(names));
    snprintf(text, sizeof(text), "there is no command '%.100s'%s%s%s", name,
             closest ? " (did you mean " : "", closest ? closest : "", closest ? "?)" : "");
    complain_of_usage(text, "");
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    complain_of_command(name);
    return NULL;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct config config;
    struct err err;
    int code;

    if (config_read(&config, command->options, argc, argv, &err) < 0) {
        code = complain_of_usage(err.text, command->name);
        if (config.only_values && command->runs_on_faults)
            (void)command->run(&config);
    } else if (config.help) {
        print_help_of(command);
        code = EXIT_FINE;
    } else {
        code = command->run(&config);
    }
    config_release(&config);
    return code;
}

/* The exit code, when what was printed hasn't all arrived: half an output must not pass for a whole one. A
 * reader who has gone (head, say) wants no more, and is nobody to complain to. */
static int finish_output(int code)
{
    struct pollfd output = {.fd = STDOUT_FILENO};
    char text[256];

    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (poll(&output, 1, 0) > 0)
        return code;
    /* Without errno the reason went with an earlier write. */
    snprintf(text, sizeof(text), "what was printed on standard output isn't whole: %s",
             errno ? strerror(errno) : "is the disk full?");
    command_complain(text);
    return code == EXIT_FINE ? EXIT_FAILED : code;
}

static int run(int argc, char **argv)
{
    const struct command *command = &cmd_serve;
    int used = 1;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return run_command(&cmd_help, 0, NULL);
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return run_command(&cmd_version, 0, NULL);
    if (argc > 1 && argv[1][0] != '-') {
        command = command_find(argv[1]);
        if (!command)
            return EXIT_USAGE;
        used = 2;
    }
    return run_command(command, argc - used, argv + used);
}

/* Who closed one of the three standard files (>&-) wants to hear nothing. The next file that is opened would else
 * take its number, and get what is printed. */
static void fill_standard_files(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_files();
    return finish_output(run(argc, argv));
}
