/* SPDX-License-Identifier: MIT */
/*
 * budget - how much time and memory a Lua state may use.
 *
 * Memory is counted by the state's allocator, for the life of the state. Time is counted per call
 * by a hook that looks at the clock every BUDGET_HOOK_COUNT instructions, by the allocator when it
 * is asked for BUDGET_LARGE_BYTES or more, and by the database's interrupt callback. It is the time that has
 * passed; of a call that others run beside, it is the time that its thread had a processor, and only
 * BUDGET_PATIENCE times as much may have passed: who has to share hasn't run for long. When either is
 * used up the hook raises, and goes on raising at every single instruction, so that no pcall,
 * <close> or coroutine of a script can go on; the state must be closed then, not used again.
 *
 * Up to BUDGET_RESERVE_BYTES more than the limit are given to a state that is out of memory: so that it gets
 * to the hook, and the error has a line and a traceback. For the same reason what is asked for in the first
 * BUDGET_GRACE_MS after the time was up is still given.
 *
 * Garbage isn't use. Lua collects it when it is refused memory, but its string buffers (string.rep,
 * table.concat, …) just fail; and with more than half of the limit alive, Lua would begin no collection
 * before it. So beyond three quarters of the limit the hook collects, each time that half of the room that
 * was left is used up.
 *
 * What this can't stop: one call of a C function of Lua that works on for long without coming back
 * to the interpreter, such as table.sort of a giant table. Patterns ask by themselves
 * (bind_pattern.c), what makes large strings ends when it asks for memory, and what could go on
 * for ever is bounded (bind_bounds.c).
 *
 * Threads    a budget belongs to the thread that runs its state.
 * Ownership  lives inside struct script, longer than the lua_State that uses it.
 */
#ifndef SCRIPT_BUDGET_H
#define SCRIPT_BUDGET_H

#include "script/blocks.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BUDGET_HOOK_COUNT = 1000,
    BUDGET_LARGE_BYTES = 32 * 1024,
    BUDGET_RESERVE_BYTES = 64 * 1024,
    BUDGET_PATIENCE = 3,
    BUDGET_GRACE_MS = 50,
};

struct budget {
    lua_State *L; /* the main thread of the state that is watched */
    size_t used_bytes;
    size_t limit_bytes;
    size_t easy_bytes;    /* up to here a request is met without a closer look */
    size_t collect_bytes; /* the hook collects when more are used */
    bool is_to_collect;
    size_t refused_bytes; /* the last request that was refused, 0 after one that wasn't */
    bool has_refused;     /* memory, since budget_start, if only once */
    int64_t deadline_ns;  /* not before is it asked whether time is up; 0 while no call runs */
    int64_t end_ns;       /* then it is, however little of a processor there was; both monotonic */
    int64_t cpu_began_ns; /* the thread's, at the start */
    bool shares;          /* others run beside the call */
    int limit_ms;
    bool was_short; /* of a processor: it was ended by end_ns, and had had had_ms */
    int had_ms;
    bool out_of_memory;
    char place[LUA_IDSIZE + 16]; /* "handlers.lua:7: ": of the last refusal, if it is known */
    bool out_of_time;
    int64_t late_ns;      /* when that was noticed */
    struct blocks blocks; /* that the state has freed; budget_forget frees them */
};

/* Before the state is made. */
void budget_open(struct budget *budget, size_t limit_bytes);

/* The lua_Alloc of a state: ud is its budget. */
void *budget_alloc(void *ud, void *block, size_t old_size, size_t new_size);

/* The state is closed: be ready for another. */
void budget_forget(struct budget *budget);

/* Watch L and the coroutines that are made of it. The budget must be reachable by budget_of(L). */
void budget_watch(lua_State *L);

void budget_start(struct budget *budget, int limit_ms);
void budget_start_beside_others(struct budget *budget, int limit_ms);
void budget_stop(struct budget *budget);

bool budget_is_used_up(const struct budget *budget);

/* Look at the clock now; the interrupt callback of the database (arg is the budget). */
bool budget_interrupts(void *budget);

/* For C functions that work for long: raises when time or memory is used up, as the hook does.
 * [-0, +0, v] */
void budget_check(lua_State *L);

/* "ran longer than 1000 ms", "had a processor for only 123 of 3000 ms, and wasn't done", "used more than
 * 65536 KiB of memory"; the last also while neither is used
 * up, for a request that was refused. */
void budget_describe(const struct budget *budget, char *out, size_t size);

#endif
