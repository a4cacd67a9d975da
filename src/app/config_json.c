/* SPDX-License-Identifier: MIT */
#include "app/config_json.h"

#include "app/config.h"

#include <string.h>

enum { VALUE_MAX = 1024 * 1024 };

static void put_member(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "\"%s\":", name);
    if (value)
        buf_put_json_string(out, value, strlen(value));
    else
        buf_puts(out, "null");
}

static void put_option(const struct config *config, size_t i, const struct config_option *option,
                       struct buf *out)
{
    struct buf value = BUF_INIT(VALUE_MAX);
    bool is_set = config_put_value(config, i, &value);

    buf_putc(out, '{');
    put_member(out, "name", option->name ? option->name : option->variable);
    buf_putc(out, ',');
    put_member(out, "variable", option->variable);
    buf_putc(out, ',');
    put_member(out, "help", option->help);
    buf_putc(out, ',');
    put_member(out, "default", option->fallback);
    buf_printf(out, ",\"secret\":%s,\"set\":%s,", option->is_secret ? "true" : "false",
               is_set ? "true" : "false");
    put_member(out, "value", is_set && !option->is_secret ? buf_text(&value) : NULL);
    buf_putc(out, '}');
    buf_release(&value);
}

void config_json_put(const void *config, struct buf *out)
{
    struct config_option option;
    bool is_first = true;

    for (size_t i = 0; config_option_at(i, &option); i++) {
        if (!(option.commands & FOR_SERVE))
            continue;
        buf_puts(out, is_first ? "" : ",");
        put_option(config, i, &option, out);
        is_first = false;
    }
}
