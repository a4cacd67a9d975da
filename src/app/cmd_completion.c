/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/event_types.h"
#include "workos/action.h"

#include <stdio.h>
#include <string.h>

/*
 * All that is completed is made of the tables that the program itself goes by: commands, options,
 * choices, event types. What an option or an operand may be is told by the word that stands for it
 * in the help: FILE, TYPE, [FOLDER], [COMMAND], bash|zsh|fish.
 */

enum { SCRIPT_MAX = 1024 * 1024 };

/* ---------------------------------------------------------------------------------- words */

static void put_types(struct buf *out, bool with_actions)
{
    for (size_t i = 0; i < event_type_count; i++)
        buf_printf(out, "%s%s", i ? " " : "", event_types[i]);
    for (size_t i = 0; with_actions && i < ARRAY_LEN(action_names); i++)
        buf_printf(out, " %s", action_names[i]);
}

static void put_choices(struct buf *out, const char *const *choices)
{
    for (size_t i = 0; choices[i]; i++)
        buf_printf(out, "%s%s", i ? " " : "", choices[i]);
}

/* What the option's value may be, by spaces; nothing for a value that can't be listed. */
static void put_values(struct buf *out, const struct config_option *option)
{
    if (option->choices)
        put_choices(out, option->choices);
    else if (option->argument && strncmp(option->argument, "TYPE", 4) == 0)
        put_types(out, false);
}

/* Of "ID…|--all" what one types as it stands there: ID… holds the place of something else. */
static void put_alternatives(struct buf *out, const char *alternatives)
{
    static const char typed[] = "abcdefghijklmnopqrstuvwxyz-";
    const char *separator = "";

    while (*alternatives) {
        size_t len = strcspn(alternatives, "|");

        if (strspn(alternatives, typed) == len) {
            buf_printf(out, "%s%.*s", separator, (int)len, alternatives);
            separator = " ";
        }
        alternatives += len + (alternatives[len] == '|');
    }
}

static void put_command_names(struct buf *out)
{
    for (size_t i = 0; i < command_count; i++)
        buf_printf(out, "%s%s", i ? " " : "", commands[i]->name);
}

static bool takes(const struct command *command, const char *operand)
{
    return command->operand && strcmp(command->operand, operand) == 0;
}

/* What the operand may be, by spaces; nothing for files, and for what can't be listed. */
static void put_operands(struct buf *out, const struct command *command)
{
    if (takes(command, "TYPE"))
        put_types(out, true);
    else if (takes(command, "[COMMAND]"))
        put_command_names(out);
    else if (command->operand)
        put_alternatives(out, command->operand);
}

static bool takes_file(const struct config_option *option)
{
    return option->argument && strcmp(option->argument, "FILE") == 0;
}

static void put_option_names(struct buf *out, int command)
{
    struct config_option option;

    for (size_t i = 0; config_option_at(i, &option); i++)
        if (option.name && (option.commands & command))
            buf_printf(out, "%s ", option.name);
    buf_puts(out, config_has_options(command) ? "--env-file --help" : "--help");
}

/* ---------------------------------------------------------------------------------- bash */

enum value_kind { FLAG_ONLY, LISTED, A_FILE, ANYTHING };

static enum value_kind kind_of(const struct config_option *option)
{
    struct buf values = BUF_INIT(SCRIPT_MAX);
    bool is_listed;

    if (!option->argument)
        return FLAG_ONLY;
    if (takes_file(option))
        return A_FILE;
    put_values(&values, option);
    is_listed = values.len > 0;
    buf_release(&values);
    return is_listed ? LISTED : ANYTHING;
}

/* " | --db" for each option of that kind. */
static void put_bash_pattern(struct buf *out, enum value_kind kind)
{
    struct config_option option;

    for (size_t i = 0; config_option_at(i, &option); i++)
        if (option.name && kind_of(&option) == kind)
            buf_printf(out, " | %s", option.name);
}

/* The arms of a case over the option that stands before the word. */
static void put_bash_values(struct buf *out)
{
    struct config_option option;

    for (size_t i = 0; config_option_at(i, &option); i++) {
        if (!option.name || kind_of(&option) != LISTED)
            continue;
        buf_printf(out, "    %s) words='", option.name);
        put_values(out, &option);
        buf_puts(out, "' ;;\n");
    }
    buf_puts(out, "    --env-file");
    put_bash_pattern(out, A_FILE);
    buf_puts(out, ") what=-f ;;\n    --help");
    put_bash_pattern(out, ANYTHING);
    buf_puts(out, ") ;;\n");
}

static void put_bash_command(struct buf *out, const struct command *command)
{
    buf_printf(out, "        %s:-*) words='", command->name);
    put_option_names(out, command->options);
    buf_puts(out, "' ;;\n");
    if (!command->operand)
        return;
    buf_printf(out, "        %s:*) ", command->name);
    if (takes(command, "[FOLDER]")) {
        buf_puts(out, "what=-d ;;\n");
    } else if (takes(command, "FILE")) {
        buf_puts(out, "what=-f ;;\n");
    } else {
        buf_puts(out, "words='");
        put_operands(out, command);
        buf_puts(out, "' ;;\n");
    }
}

/* What zsh's bashcompinit knows as well. IFS is for names with spaces in them. */
static void put_bash(struct buf *out)
{
    buf_puts(out, "# Made by: authkitd completion\n"
                  "_authkitd()\n"
                  "{\n"
                  "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
                  "    local command=${COMP_WORDS[1]} words='' what='' IFS=$' \\t\\n'\n"
                  "    COMPREPLY=()\n"
                  "    # --option=value is three words to bash.\n"
                  "    if [[ $cur == = ]]; then\n"
                  "        cur=''\n"
                  "    elif [[ $prev == = ]]; then\n"
                  "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
                  "    fi\n"
                  "    case $prev in\n");
    put_bash_values(out);
    buf_puts(out, "    *)\n"
                  "        # Options without a command are those of serve.\n"
                  "        if [[ $COMP_CWORD == 1 && $cur != -* ]]; then\n"
                  "            command=''\n"
                  "        elif [[ $command == -* ]]; then\n"
                  "            command=serve\n"
                  "        fi\n"
                  "        case $command:$cur in\n"
                  "        :*) words='");
    put_command_names(out);
    buf_puts(out, "' ;;\n");
    for (size_t i = 0; i < command_count; i++)
        put_bash_command(out, commands[i]);
    buf_puts(out, "        esac\n"
                  "        ;;\n"
                  "    esac\n"
                  "    if [[ -n $what ]]; then\n"
                  "        compopt -o filenames 2>/dev/null\n"
                  "        IFS=$'\\n'\n"
                  "        COMPREPLY=($(compgen $what -- \"$cur\"))\n"
                  "    else\n"
                  "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                  "    fi\n"
                  "}\n"
                  "complete -F _authkitd authkitd\n");
}

/* ---------------------------------------------------------------------------------- fish */

static void put_fish_text(struct buf *out, const char *text)
{
    buf_putc(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *text);
    }
    buf_putc(out, '\'');
}

static void put_fish_option(struct buf *out, const char *command,
                            const struct config_option *option)
{
    struct buf values = BUF_INIT(SCRIPT_MAX);

    buf_printf(out, "complete -c authkitd -n '__fish_seen_subcommand_from %s' -l %s", command,
               option->name + 2);
    put_values(&values, option);
    if (takes_file(option))
        buf_puts(out, " -r -F");
    else if (option->argument)
        buf_puts(out, " -x");
    if (values.len > 0) {
        buf_puts(out, " -a ");
        put_fish_text(out, buf_text(&values));
    }
    buf_puts(out, " -d ");
    put_fish_text(out, option->help);
    buf_putc(out, '\n');
    buf_release(&values);
}

static void put_fish_operands(struct buf *out, const struct command *command)
{
    struct buf operands = BUF_INIT(SCRIPT_MAX);

    put_operands(&operands, command);
    if (takes(command, "[FOLDER]"))
        buf_puts(&operands, "(__fish_complete_directories)");
    if (takes(command, "FILE"))
        buf_printf(out, "complete -c authkitd -n '__fish_seen_subcommand_from %s' -F\n",
                   command->name);
    if (operands.len > 0) {
        buf_printf(out, "complete -c authkitd -n '__fish_seen_subcommand_from %s' -a ",
                   command->name);
        put_fish_text(out, buf_text(&operands));
        buf_putc(out, '\n');
    }
    buf_release(&operands);
}

static void put_fish_command(struct buf *out, const struct command *command)
{
    static const struct config_option env_file = {
        .name = "--env-file", .argument = "FILE", .help = "read KEY=value lines first"};
    struct config_option option;

    buf_printf(out, "complete -c authkitd -n __fish_use_subcommand -a %s -d ", command->name);
    put_fish_text(out, command->summary);
    buf_putc(out, '\n');
    put_fish_operands(out, command);
    for (size_t i = 0; config_option_at(i, &option); i++)
        if (option.name && (option.commands & command->options))
            put_fish_option(out, command->name, &option);
    if (config_has_options(command->options))
        put_fish_option(out, command->name, &env_file);
}

static void put_fish(struct buf *out)
{
    buf_puts(out, "# Made by: authkitd completion\n"
                  "complete -c authkitd -f\n"
                  "complete -c authkitd -l help -d 'tell the options'\n");
    for (size_t i = 0; i < command_count; i++)
        put_fish_command(out, commands[i]);
}

/* ---------------------------------------------------------------------------------- the command */

/* zsh runs bash's, which it has a part for. */
static void put_zsh(struct buf *out)
{
    buf_puts(out, "#compdef authkitd\n"
                  "autoload -U +X bashcompinit && bashcompinit\n");
    put_bash(out);
    buf_puts(out, "# Loaded by its name, from $fpath: this call is the first to be answered.\n"
                  "[[ $funcstack[1] != _authkitd ]] || _bash_complete -F _authkitd\n");
}

static int complete(const struct config *config)
{
    static const struct {
        const char *shell;
        void (*put)(struct buf *out);
    } shells[] = {{"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish}};
    const char *wanted = config->operand_count ? config->operands[0] : "";

    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        struct buf text = BUF_INIT(SCRIPT_MAX);

        if (strcmp(shells[i].shell, wanted) != 0)
            continue;
        shells[i].put(&text);
        fputs(buf_text(&text), stdout);
        buf_release(&text);
        return EXIT_FINE;
    }
    command_complain("completion wants the name of your shell: bash, zsh or fish");
    return EXIT_USAGE;
}

const struct command cmd_completion = {
    .name = "completion",
    .operand = "bash|zsh|fish",
    .summary = "print what has your shell complete commands, options and event types",
    .about =
        "For this shell alone: source <(authkitd completion bash). Debian's package brings the "
        "files\nof all three.",
    .options = FOR_COMPLETION,
    .run = complete,
};
