/* SPDX-License-Identifier: MIT */
#include "workos/circle.h"

#include <stdio.h>
#include <string.h>

bool circle_closes(struct circle *circle, const char *cursor)
{
    if (circle->pages > 0 && strcmp(circle->seen, cursor) == 0)
        return true;
    if (circle->pages == circle->next) {
        snprintf(circle->seen, sizeof(circle->seen), "%s", cursor);
        circle->next = 2 * circle->next + 1;
    }
    circle->pages++;
    return false;
}

bool circle_stays_empty(struct circle *circle, bool is_empty)
{
    circle->empty = is_empty ? circle->empty + 1 : 0;
    return circle->empty > CIRCLE_EMPTY_MAX;
}
