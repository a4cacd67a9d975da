/* SPDX-License-Identifier: MIT */
#include "app/misspelt.h"

#include "app/config.h"
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_MAX = 96, NAME_MAX_BYTES = 64 };

/* Of WorkOS's own libraries and tools. */
static const char *const of_others[] = {
    "WORKOS_AUTHKIT_DOMAIN",  "WORKOS_BASE_URL",        "WORKOS_COOKIE_DOMAIN",
    "WORKOS_COOKIE_MAX_AGE",  "WORKOS_COOKIE_NAME",     "WORKOS_COOKIE_PASSWORD",
    "WORKOS_COOKIE_SAMESITE", "WORKOS_ENVIRONMENT_ID",  "WORKOS_ORGANIZATION_ID",
    "WORKOS_REDIRECT_URI",    "WORKOS_REQUEST_TIMEOUT",
};

struct names {
    char text[NAMES_MAX][NAME_MAX_BYTES];
    const char *at[NAMES_MAX];
    size_t count;
};

static void add_name(struct names *names, const char *name, const char *end)
{
    if (names->count == NAMES_MAX)
        return;
    snprintf(names->text[names->count], NAME_MAX_BYTES, "%s%s", name, end);
    names->at[names->count] = names->text[names->count];
    names->count++;
}

/* Ours; a secret's name may have _FILE behind it. */
static void list_names(struct names *names)
{
    struct config_option option;

    for (size_t i = 0; config_option_at(i, &option); i++) {
        if (option.variable)
            add_name(names, option.variable, "");
        if (option.variable && option.is_secret)
            add_name(names, option.variable, "_FILE");
    }
}

static bool is_among(const char *const *names, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], word) == 0)
            return true;
    return false;
}

static bool begins_like_ours(const char *word)
{
    return text_starts_with(word, "AUTHKITD_") || text_starts_with(word, "WORKOS_");
}

static void put_line(struct buf *out, const char *where, const char *variable, const char *meant)
{
    buf_printf(out, "%s%s isn't a variable of authkitd%s%s%s\n", where, variable,
               meant ? " (did you mean " : "", meant ? meant : "", meant ? "?)" : "");
}

static void put_of_file(struct buf *out, const char *variable, const char *where,
                        const struct names *names)
{
    char upper[128], meant[NAME_MAX_BYTES + 8];
    const char *closest, *word = upper;
    bool is_joined;

    snprintf(upper, sizeof(upper), "%s", variable);
    for (char *c = upper; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    is_joined = text_starts_with(variable, "export") && begins_like_ours(upper + strlen("export"));
    if (is_joined)
        word = upper + strlen("export");
    closest = text_closest(word, names->at, names->count);
    snprintf(meant, sizeof(meant), "%s%s", is_joined ? "export " : "", closest ? closest : "");
    if (closest || begins_like_ours(word))
        put_line(out, where, variable, closest ? meant : NULL);
}

static void put_of_environment(struct buf *out, const char *variable, const struct names *names)
{
    const char *closest = text_closest(variable, names->at, names->count);

    if (closest || text_starts_with(variable, "AUTHKITD_"))
        put_line(out, "", variable, closest);
}

void misspelt_put(struct buf *out, const char *variable, const char *where)
{
    struct names names = {0};

    list_names(&names);
    if (is_among(names.at, names.count, variable) ||
        is_among(of_others, ARRAY_LEN(of_others), variable))
        return;
    if (*where)
        put_of_file(out, variable, where, &names);
    else
        put_of_environment(out, variable, &names);
}
