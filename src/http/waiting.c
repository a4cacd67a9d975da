/* SPDX-License-Identifier: MIT */
#include "http/waiting.h"

static void line_init(struct waiting_line *line)
{
    line->first = NULL;
    line->end = &line->first;
}

static struct gate_conn *line_take(struct waiting_line *line)
{
    struct gate_conn *conn = line->first;

    if (!conn)
        return NULL;
    line->first = conn->next;
    if (!line->first)
        line->end = &line->first;
    conn->next = NULL;
    return conn;
}

void waiting_init(struct waiting *waiting)
{
    line_init(&waiting->urgent);
    line_init(&waiting->normal);
    waiting->urgent_in_a_row = 0;
}

void waiting_push(struct waiting *waiting, struct gate_conn *conn)
{
    struct waiting_line *line = conn->is_urgent ? &waiting->urgent : &waiting->normal;

    conn->next = NULL;
    *line->end = conn;
    line->end = &conn->next;
}

struct gate_conn *waiting_take(struct waiting *waiting)
{
    struct gate_conn *conn = NULL;

    if (waiting->urgent_in_a_row < WAITING_SHARE - 1 || !waiting->normal.first)
        conn = line_take(&waiting->urgent);
    waiting->urgent_in_a_row = conn ? waiting->urgent_in_a_row + 1 : 0;
    if (!conn)
        conn = line_take(&waiting->normal);
    return conn;
}

bool waiting_is_empty(const struct waiting *waiting)
{
    return !waiting->urgent.first && !waiting->normal.first;
}
