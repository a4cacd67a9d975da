/* SPDX-License-Identifier: MIT */
#include "script/budget.h"

#include "base/clock.h"
#include "script/script_state.h"

#include <lauxlib.h>
#include <stdio.h>

static void on_count(lua_State *L, lua_Debug *ar);

/* Have the hook called at the next instruction of the main thread; of a coroutine, soon. */
static void hurry(struct budget *budget)
{
    if (budget->deadline_ns) /* else no call runs: there may be no state yet */
        lua_sethook(budget->L, on_count, LUA_MASKCOUNT, 1); /* may be called at any time */
}

/*
 * When Lua is refused memory, no message handler runs, and the error has neither a line nor a traceback. What
 * fits the reserve is still given, so the hook raises at the next instruction; of what doesn't, the place is
 * noted. Reading it allocates nothing, and the list of calls is whole whenever Lua asks for a block
 * that is new. It is not when Lua makes its stack grow: later versions of 5.4 have its addresses changed to
 * offsets by then. So nothing is read when a block is to grow.
 */
static void note_place(struct budget *budget, const void *block)
{
    lua_Debug line;

    budget->place[0] = '\0';
    if (!block && budget->deadline_ns && find_line(budget->L, 0, &line))
        snprintf(budget->place, sizeof(budget->place), "%s:%d: ", line.short_src, line.currentline);
}

static void set_easy(struct budget *budget)
{
    budget->easy_bytes =
        budget->collect_bytes < budget->limit_bytes ? budget->collect_bytes : budget->limit_bytes;
}

static void run_out_of_memory(struct budget *budget)
{
    if (budget->out_of_memory)
        return;
    budget->out_of_memory = true;
    hurry(budget);
}

/*
 * Lua asks, is refused, collects all garbage and asks for the same once more. Only the second
 * refusal in a row means that the state is really out of memory.
 */
static void note_refusal(struct budget *budget, const void *block, size_t new_size)
{
    bool is_again = budget->refused_bytes == new_size;

    budget->has_refused = true;
    budget->refused_bytes = new_size;
    budget->easy_bytes = 0; /* what comes next is looked at */
    note_place(budget, block);
    if (is_again)
        run_out_of_memory(budget);
}

/*
 * While it collects Lua asks for nothing. So who asks for something else (or for nothing any more: 0) was a
 * string buffer, which doesn't ask twice, and the state is out of memory as well. Not so for what could never
 * have been given: that is an error like others, which the script may catch.
 */
static void end_refusal(struct budget *budget, size_t new_size)
{
    size_t refused_bytes = budget->refused_bytes;

    budget->refused_bytes = 0;
    if (refused_bytes && refused_bytes != new_size && refused_bytes <= budget->limit_bytes)
        run_out_of_memory(budget);
}

static size_t most_bytes(const struct budget *budget)
{
    return budget->limit_bytes + (budget->out_of_memory ? BUDGET_RESERVE_BYTES : 0);
}

/* A request with which used_bytes would be used, more than is given easily. */
static bool is_refused(struct budget *budget, const void *block, size_t new_size, size_t used_bytes)
{
    if (budget->refused_bytes != new_size)
        end_refusal(budget, new_size);
    if (used_bytes > most_bytes(budget)) {
        note_refusal(budget, block, new_size);
        if (used_bytes > most_bytes(budget))
            return true;
    }
    end_refusal(budget, new_size);
    if (used_bytes > budget->collect_bytes && !budget->is_to_collect) {
        budget->is_to_collect = true;
        hurry(budget);
    }
    set_easy(budget);
    return false;
}

static size_t early_bytes(const struct budget *budget)
{
    return budget->limit_bytes / 4 * 3;
}

/* Half of the room that is left may become garbage, if that is worth a collection. */
static void plan_collection(struct budget *budget)
{
    size_t used = budget->used_bytes, limit = budget->limit_bytes;
    size_t half = used < limit ? (limit - used) / 2 : 0;

    if (half < limit / 32)
        budget->collect_bytes = SIZE_MAX;
    else if (used + half < early_bytes(budget))
        budget->collect_bytes = early_bytes(budget);
    else
        budget->collect_bytes = used + half;
    set_easy(budget);
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
    if (now_ns > budget->deadline_ns && (!budget->shares || is_time_up(budget, now_ns))) {
        budget->out_of_time = true;
        budget->late_ns = now_ns;
    }
    return budget->out_of_time;
}

/*
 * Functions of C that work on large strings run few instructions of Lua's in much time, but they do
 * ask for memory. The hook says that the time is up, at the very next instruction; where that doesn't come,
 * they get no more memory, and the error is "not enough memory": call_error knows better.
 */
static bool is_too_late(struct budget *budget)
{
    bool was_out_of_time = budget->out_of_time;

    if (!budget->deadline_ns || budget->out_of_memory || !is_out_of_time(budget))
        return false;
    if (!was_out_of_time)
        hurry(budget);
    return clock_mono_ns() - budget->late_ns > BUDGET_GRACE_MS * INT64_C(1000000);
}

void *budget_alloc(void *ud, void *block, size_t old_size, size_t new_size)
{
    struct budget *budget = ud;
    size_t used_bytes;
    void *fresh;

    if (!block)
        old_size = 0; /* it is a type tag then */
    used_bytes = budget->used_bytes - old_size + new_size;
    if (new_size == 0) {
        blocks_free(&budget->blocks, block, old_size);
        budget->used_bytes = used_bytes;
        return NULL;
    }
    if (new_size > old_size) {
        if (used_bytes > budget->easy_bytes && is_refused(budget, block, new_size, used_bytes))
            return NULL;
        if (new_size >= BUDGET_LARGE_BYTES && is_too_late(budget)) {
            note_place(budget, block);
            return NULL;
        }
    }
    fresh = blocks_resize(&budget->blocks, block, old_size, new_size);
    if (!fresh) { /* the machine has no more, whatever the limit says */
        note_refusal(budget, block, new_size);
        return NULL;
    }
    budget->used_bytes = used_bytes;
    return fresh;
}

void budget_open(struct budget *budget, size_t limit_bytes)
{
    budget->limit_bytes = limit_bytes;
    plan_collection(budget);
}

void budget_forget(struct budget *budget)
{
    blocks_release(&budget->blocks);
    budget->L = NULL;
    budget->out_of_memory = budget->out_of_time = false;
    budget->is_to_collect = false;
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

void budget_check(lua_State *L)
{
    struct budget *budget = &script_of(L)->budget;
    char text[64];

    end_refusal(budget, 0);
    if (!budget_interrupts(budget))
        return;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1); /* at every instruction from now on */
    budget_describe(budget, text, sizeof(text));
    script_raise(L, "%s", text);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    struct budget *budget = &script_of(L)->budget;

    (void)ar;
    budget_check(L);
    if (budget->is_to_collect) {
        lua_gc(L, LUA_GCCOLLECT, 0);
        budget->is_to_collect = false;
        plan_collection(budget);
    }
    if (lua_gethookcount(L) != BUDGET_HOOK_COUNT)
        lua_sethook(L, on_count, LUA_MASKCOUNT, BUDGET_HOOK_COUNT);
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
    /* What was planned before counts from a collection, and so doesn't take garbage for use. */
    if (budget->used_bytes < early_bytes(budget) || budget->collect_bytes > budget->limit_bytes)
        plan_collection(budget);
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
    end_refusal(budget, 0);
    budget->deadline_ns = 0;
}
