/* SPDX-License-Identifier: MIT */
/*
 * room - is there room on the disk again?
 *
 * When a full disk has turned events away nobody may come any more who would find out: so a little
 * more than an event takes is written, and deleted again.
 *
 * Threads    any but the writer's; blocks.
 * Errors     those of the writer; ERR_FULL: there is none.
 */
#ifndef WORKOS_ROOM_H
#define WORKOS_ROOM_H

#include "base/err.h"

struct workos;

int room_try(struct workos *workos, struct err *err) MUST_CHECK;

#endif
