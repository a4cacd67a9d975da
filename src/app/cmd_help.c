/* SPDX-License-Identifier: MIT */
#include "app/command.h"

static int help(const struct config *config)
{
    const struct command *command = NULL;

    if (config->operand_count) {
        command = command_find(config->operands[0]);
        if (!command)
            return EXIT_USAGE;
    }
    command_print_help(command);
    return EXIT_FINE;
}

const struct command cmd_help = {
    .name = "help",
    .operand = "[COMMAND]",
    .summary = "tell what a command does and its options, as its --help does",
    .about = "Without one: which commands there are, and the options of serve.",
    .options = FOR_HELP,
    .run = help,
};
