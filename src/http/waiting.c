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
    pthread_mutex_init(&waiting->lock, NULL);
    line_init(&waiting->urgent);
    line_init(&waiting->normal);
    waiting->urgent_in_a_row = 0;
}

void waiting_release(struct waiting *waiting)
{
    pthread_mutex_destroy(&waiting->lock);
}

void waiting_push(struct waiting *waiting, struct gate_conn *conn, bool is_urgent)
{
    struct waiting_line *line = is_urgent ? &waiting->urgent : &waiting->normal;

    conn->next = NULL;
    pthread_mutex_lock(&waiting->lock);
    *line->end = conn;
    line->end = &conn->next;
    pthread_mutex_unlock(&waiting->lock);
}

struct gate_conn *waiting_take(struct waiting *waiting)
{
    struct gate_conn *conn = NULL;

    pthread_mutex_lock(&waiting->lock);
    if (waiting->urgent_in_a_row < WAITING_SHARE - 1 || !waiting->normal.first)
        conn = line_take(&waiting->urgent);
    waiting->urgent_in_a_row = conn ? waiting->urgent_in_a_row + 1 : 0;
    if (!conn)
        conn = line_take(&waiting->normal);
    pthread_mutex_unlock(&waiting->lock);
    return conn;
}
