/* SPDX-License-Identifier: MIT */
#include "script/budget.h"

#include "base/clock.h"
#include "script/script_state.h"

#include <lauxlib.h>
#include <stdio.h>

static void on_count(lua_State *L, lua_Debug *ar);

static size_t room_bytes(const struct budget *budget)
{
    return budget->limit_bytes + (budget->out_of_memory ? BUDGET_RESERVE_BYTES : 0) -
           budget->used_bytes;
}

/*
 * When Lua is refused memory, no message handler runs, and the error has neither a line nor a traceback. So
 * what fits the reserve is still given, and the hook raises at the next instruction. Of what doesn't, the
 * place is noted. Reading it allocates nothing, and the list of calls is whole whenever Lua asks for a block
 * that is new. It is not when Lua makes its stack grow: later versions of 5.4 have its addresses changed to
 * offsets by then. So nothing is read when a block is to grow.
 */
static void run_out_of_memory(struct budget *budget, const void *block, size_t new_size)
{
    lua_Debug line;

    if (budget->out_of_memory)
        return;
    budget->out_of_memory = true;
    if (!budget->deadline_ns)
        return; /* no call runs: there may be no state yet */
    lua_sethook(budget->L, on_count, LUA_MASKCOUNT, 1); /* may be called at any time */
    if (!block && new_size > room_bytes(budget) && find_line(budget->L, 0, &line))
        snprintf(budget->place, sizeof(budget->place), "%s:%d: ", line.short_src, line.currentline);
}

/*
 * Lua asks, is refused, collects all garbage and asks for the same once more. Only the second
 * refusal in a row means that the state is really out of memory.
 */
static bool is_asked_again(struct budget *budget, size_t new_size)
{
    bool is_again = budget->refused_bytes == new_size;

    budget->has_refused = true;
    budget->refused_bytes = new_size;
    return is_again;
}

static bool is_refused(struct budget *budget, const void *block, size_t new_size, size_t more)
{
    if (more <= room_bytes(budget))
        return false;
    if (is_asked_again(budget, new_size))
        run_out_of_memory(budget, block, new_size);
    return more > room_bytes(budget);
}

/* The deadline of a call that others run beside has passed: is its time up? Else a later deadline is set. */
static bool is_time_up(struct budget *budget, int64_t now_ns)
{
    int64_t limit_ns = budget->limit_ms * INT64_C(1000000);
    int64_t had_ns = clock_thread_cpu_ns() - budget->cpu_began_ns;

    if (now_ns < budget->end_ns && had_ns < limit_ns) {
        budget->deadline_ns = now_ns + limit_ns - had_ns;
        if (budget->deadline_ns > budget->end_ns)
            budget->deadline_ns = budget->end_ns;
        return false;
    }
    budget->was_short = had_ns < limit_ns;
    budget->had_ms = (int)(had_ns / 1000000);
    return true;
}

static bool is_out_of_time(struct budget *budget)
{
    int64_t now_ns;

    if (!budget->deadline_ns || budget->out_of_time)
        return budget->out_of_time;
    now_ns = clock_mono_ns();
    if (now_ns > budget->deadline_ns)
        budget->out_of_time = !budget->shares || is_time_up(budget, now_ns);
    return budget->out_of_time;
}

/*
 * Functions of C that work on large strings run few instructions of Lua's in much time, but they do
 * ask for memory. When their time is up they get none, and an error follows: "not enough memory".
 * That it really was the time is said by the hook, at the very next instruction (of a coroutine:
 * soon), and by call_error.
 */
static bool is_too_late(struct budget *budget, size_t new_size)
{
    bool was_out_of_time = budget->out_of_time;

    if (new_size < BUDGET_LARGE_BYTES || !budget->deadline_ns || budget->out_of_memory)
        return false;
    if (is_out_of_time(budget) && !was_out_of_time)
        lua_sethook(budget->L, on_count, LUA_MASKCOUNT, 1); /* may be called at any time */
    return budget->out_of_time;
}

void *budget_alloc(void *ud, void *block, size_t old_size, size_t new_size)
{
    struct budget *budget = ud;
    void *fresh;

    if (!block)
        old_size = 0; /* it is a type tag then */
    if (new_size == 0) {
        blocks_free(&budget->blocks, block, old_size);
        budget->used_bytes -= old_size;
        return NULL;
    }
    if (new_size > old_size && is_refused(budget, block, new_size, new_size - old_size))
        return NULL;
    if (new_size > old_size && is_too_late(budget, new_size))
        return NULL;
    fresh = blocks_resize(&budget->blocks, block, old_size, new_size);
    if (!fresh) { /* the machine has no more, whatever the limit says */
        budget->out_of_memory |= is_asked_again(budget, new_size);
        return NULL;
    }
    budget->used_bytes += new_size - old_size;
    if (new_size > old_size)
        budget->refused_bytes = 0;
    return fresh;
}

void budget_forget(struct budget *budget)
{
    blocks_release(&budget->blocks);
    budget->L = NULL;
    budget->out_of_memory = budget->out_of_time = false;
}

bool budget_is_used_up(const struct budget *budget)
{
    return budget->out_of_memory || budget->out_of_time;
}

bool budget_interrupts(void *arg)
{
    struct budget *budget = arg;

    is_out_of_time(budget);
    return budget_is_used_up(budget);
}

void budget_describe(const struct budget *budget, char *out, size_t size)
{
    if (budget->out_of_time && !budget->out_of_memory && budget->was_short)
        snprintf(out, size, "had a processor for only %d of %d ms, and wasn't done", budget->had_ms,
                 budget->limit_ms * BUDGET_PATIENCE);
    else if (budget->out_of_time && !budget->out_of_memory)
        snprintf(out, size, "ran longer than %d ms", budget->limit_ms);
    else
        snprintf(out, size, "used more than %zu KiB of memory", budget->limit_bytes / 1024);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    struct budget *budget = &script_of(L)->budget;
    char text[64];

    (void)ar;
    if (!budget_interrupts(budget))
        return;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1); /* at every instruction from now on */
    budget_describe(budget, text, sizeof(text));
    script_raise(L, "%s", text);
}

void budget_check(lua_State *L)
{
    struct budget *budget = &script_of(L)->budget;
    char text[64];

    if (!budget_interrupts(budget))
        return;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    budget_describe(budget, text, sizeof(text));
    script_raise(L, "%s", text);
}

void budget_watch(lua_State *L)
{
    script_of(L)->budget.L = L;
    lua_sethook(L, on_count, LUA_MASKCOUNT, BUDGET_HOOK_COUNT);
}

void budget_start(struct budget *budget, int limit_ms)
{
    budget->limit_ms = limit_ms;
    budget->shares = budget->was_short = false;
    budget->deadline_ns = budget->end_ns = clock_mono_ns() + limit_ms * INT64_C(1000000);
    budget->refused_bytes = 0;
    budget->has_refused = false;
    budget->place[0] = '\0';
}

void budget_start_beside_others(struct budget *budget, int limit_ms)
{
    budget_start(budget, limit_ms);
    budget->shares = true;
    budget->cpu_began_ns = clock_thread_cpu_ns();
    budget->end_ns += limit_ms * INT64_C(1000000) * (BUDGET_PATIENCE - 1);
}

void budget_stop(struct budget *budget)
{
    budget->deadline_ns = 0;
}
