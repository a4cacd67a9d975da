/* SPDX-License-Identifier: MIT */
#include "app/advice.h"

#include "app/event_types.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TYPE_MAX = 256, COMMAND_COLUMN = 48 };

/* systemd gives a service a copy of its secrets here; nobody can fill that in. */
#define CREDENTIALS "/run/credentials/"

/* The settings of the service, which is started by systemctl alone. */
#define SERVICE_SETTINGS "/etc/authkitd/"

/* The one that wins over the others; NULL: there is none. */
static const char *last_env_file(const struct config *config)
{
    return config->env_file_count ? config->env_files[config->env_file_count - 1] : NULL;
}

void advice_put_no_secrets(struct buf *out, const struct config *config, const char *command)
{
    const char *file = last_env_file(config);

    if (file && text_starts_with(file, CREDENTIALS))
        buf_puts(out, "fill one of them in in the file that the unit loads (LoadCredential=), as a "
                      "rule /etc/authkitd/authkitd.env; then systemctl restart authkitd");
    else if (file)
        buf_printf(out, "fill one of them in in %s, then call authkitd %s again", file, command);
    else if (access(ADVICE_ENV_FILE, F_OK) == 0)
        buf_printf(out,
                   "there is a file " ADVICE_ENV_FILE " here, which has to be named: authkitd %s "
                   "--env-file " ADVICE_ENV_FILE,
                   command);
    else
        buf_printf(out,
                   "authkitd init writes " ADVICE_ENV_FILE ", which says where WorkOS shows them; "
                   "fill it in; then authkitd %s --env-file " ADVICE_ENV_FILE,
                   command);
}

static void put_event_name(struct buf *out, const char *type, const struct config *config)
{
    const char *closest = event_type_closest(type);

    if (event_type_is_known(type)) {
        if (event_type_is_polled_only(type) && config->poll_s == 0)
            buf_printf(out,
                       "%s comes from WorkOS's Events API alone, which isn't read: it needs "
                       "WORKOS_API_KEY, and no --poll off\n",
                       type);
    } else if (closest) {
        buf_printf(out, "%s is no event type that is known here: did you mean %s?\n", type,
                   closest);
    } else {
        buf_printf(out,
                   "%s is no event type that is known here: if WorkOS has it, never mind; else its "
                   "function never runs\n",
                   type);
    }
}

void advice_put_event_names(struct buf *out, const char *names, const struct config *config)
{
    for (size_t len; *names; names += len + (names[len] == ' ')) {
        char type[TYPE_MAX];

        len = strcspn(names, " ");
        snprintf(type, sizeof(type), "%.*s", (int)len, names);
        put_event_name(out, type, config);
    }
}

void advice_put_shell_word(struct buf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_./,:+@%-";

    if (*word && strspn(word, plain) == strlen(word)) {
        buf_puts(out, word);
        return;
    }
    buf_putc(out, '\'');
    for (; *word; word++)
        *word == '\'' ? buf_puts(out, "'\\''") : buf_putc(out, *word);
    buf_putc(out, '\'');
}

/* writes: the command is to write to the env file, too. */
static void put_command(struct buf *out, const struct config *config, const char *command,
                        bool writes, const char *word)
{
    struct buf text = BUF_INIT(8192);

    buf_printf(&text, "authkitd %s", command);
    for (size_t i = 0; i < config->env_file_count; i++) {
        buf_puts(&text, " --env-file ");
        advice_put_shell_word(&text, config->env_files[i]);
    }
    if (config->env_file_count && writes) {
        buf_puts(&text, " --write ");
        advice_put_shell_word(&text, last_env_file(config));
    }
    buf_printf(out, "%-*s  # %s\n", COMMAND_COLUMN, buf_text(&text), word);
    buf_release(&text);
}

void advice_put_next(struct buf *out, const struct config *config)
{
    const char *file = last_env_file(config);
    const char *sample = config->webhook_secret ? "send user.created" : "send user_registration";

    if (file && text_starts_with(file, SERVICE_SETTINGS))
        buf_printf(out, "%-*s  # start it, or have it read its settings again\n", COMMAND_COLUMN,
                   "systemctl restart authkitd");
    else
        put_command(out, config, "serve", false, "start; one that runs wants: authkitd reload");
    put_command(out, config, sample, false, "a signed sample, from another terminal");
    if (config->api_key)
        put_command(out, config, "setup https://your-host", true, "have WorkOS send its events");
}
