/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "store/db.h"

#include <stdio.h>

static int version(const struct config *config)
{
    (void)config;
    printf("authkitd %s (SQLite %s)\n", AUTHKITD_VERSION, db_library_version());
    return EXIT_FINE;
}

const struct command cmd_version = {
    .name = "version",
    .summary = "print the version",
    .about = "",
    .run = version,
};
