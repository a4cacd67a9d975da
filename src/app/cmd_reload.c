/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/admin_client.h"

#include <stdio.h>

static int reload(const struct config *config)
{
    static const struct admin_call call = {
        .path = "/reload",
        .instead = "send it a SIGHUP (kill -HUP)",
        .proof = "reloaded",
        .slow = "a new script that changes large tables takes its time"};
    struct http_client_response response = {0};
    struct err err;
    int code = EXIT_FINE;

    if (admin_client_post(config, &call, &response, &err) < 0) {
        command_complain(err.text);
        return EXIT_FAILED;
    }
    if (response.status == 200) {
        printf("script loaded\n");
        admin_client_print(stdout, &response, NULL, "changes");
        if (admin_client_is_true(&response, "certificate_refused")) {
            command_complain("the certificate was refused, the old one goes on");
            code = EXIT_FAILED;
        }
    } else {
        fprintf(stderr, "authkitd: the script was %s:\n",
                response.status == 422 ? "refused, the old one goes on" : "not loaded");
        admin_client_print(stderr, &response, "error", "message");
        code = EXIT_FAILED;
    }
    http_client_response_release(&response);
    return code;
}

const struct command cmd_reload = {
    .name = "reload",
    .summary = "have the running server load its script again; wait for the outcome",
    .about =
        "The server is found by --admin-listen if that is given, else by the lock beside --db.\n"
        "Failed events run again at once with the new script. The certificate is read again, too: "
        "one\n"
        "that is refused ends it with exit code 1, though the script is loaded.",
    .options = FOR_RELOAD,
    .run = reload,
};
