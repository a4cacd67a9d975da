/* SPDX-License-Identifier: MIT */
/*
 * crew - what the workers do next, and how many of them do it at once.
 *
 * Threads that take turns on a processor do less than one that goes on: each turn costs some
 * microseconds. So there are many workers, since what they call may block, but of those that have
 * something to do only `usual` run at once; one that is done takes the next thing by itself, and
 * nobody is woken for it. Another is called when
 *
 *   - fewer run, and something waits;
 *   - one that runs says that it is going to wait for something (crew_wait_begin);
 *   - something waits, and for stall_ms nobody has taken anything: those that run are with long
 *     calls. They are stuck, then, and until they are done with that they count as if they didn't
 *     run: one more is called, and `usual` others may run, all in all up to `most`; if they get
 *     stuck, too, the same again stall_ms later. So nobody waits for long for an answer because
 *     others are slow.
 *
 * Whoever finds nothing to do looks for what has come, and waits there (opts.look). As many may wait
 * there at once as may run, and the system wakes one of them. What it finds it does itself; only if
 * there is more than that is another one told: for a request that comes alone nobody else is woken.
 * While all run, one of them looks now and then, without waiting, since answers and what is urgent go
 * first. While one that ran waits for something else, it is enough that one looks.
 *
 * Whoever is one too many is parked inside crew_next: to wake one costs less than to have one come,
 * and it is always the same few that are woken. Of the others most are never started: that is done when
 * one is called, and all that there are have something to do.
 *
 *     opts.look, crew_add_request --> [ urgent | normal ] --+--> crew_come, crew_next --> the worker
 *                 crew_add_answer --> [ answers ] ----------+
 *
 * Answers go before requests: whoever gets one makes room.
 *
 * Threads    crew_start, _open, _close, _stop: main. crew_add_*, _nudge_again: any. The others: a worker, of
 *            this crew alone. opts.start, .call and .nudge: any of these, with the crew's lock; .look and
 *            .waits: a worker, without a lock.
 * Ownership  a connection or an answer belongs to the crew from add, or look, until a worker has it.
 * Limits     all connections have room. `call` is called at most `most` times more often than
 *            crew_come.
 */
#ifndef HTTP_CREW_H
#define HTTP_CREW_H

#include "base/err.h"
#include "http/gate.h"
#include "http/message.h"
#include "http/waiting.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct crew_opts {
    int usual; /* workers that run, or look */
    int most;  /* that there may be */
    int stall_ms;
    void (*call)(void *arg); /* have one worker come, some time soon: it begins with crew_come */
    /* There is to be one more worker that can be called. False: it can't be had, and the call is for one that
     * there is already. NULL: `most` are there from the beginning. Not called after crew_close. */
    bool (*start)(void *arg);
    /* Both NULL: nobody looks. As gate_look and gate_nudge (gate.h); is_urgent is set. */
    struct gate_conn *(*look)(void *arg, bool may_wait, bool *out_more);
    void (*nudge)(void *arg);
    /* A worker is about to wait, or to go; NULL: nobody minds. */
    void (*waits)(void *arg);
    void *arg;
};

/* One of the two, or nothing. */
struct crew_work {
    struct http_later *answer;
    struct gate_conn *conn;
};

struct crew_parked;

struct crew {
    struct crew_opts opts;
    pthread_t pacer;
    bool pacer_runs;

    pthread_mutex_t lock;
    pthread_cond_t stalled; /* the pacer is to look, or to end */
    /* guarded by lock */
    struct waiting requests;
    struct http_later *answers, **answers_end;
    int running; /* workers that came, and neither wait, nor wait in look, nor are parked */
    int stuck;   /* of these, those that ran at the last stall, and are still with the same */
    int started; /* workers that there are */
    int limit;   /* that there can be: most, or fewer since no other could be started */
    int called; /* of these, those that are to come, and haven't yet; more, if no more could be started */
    int inside;                 /* those that came, and haven't gone */
    int looking;                /* workers that wait in look */
    int away;                   /* workers that wait for something else */
    bool nudged;                /* one of them is about to return */
    bool glances;               /* one that runs looks, too, and doesn't wait */
    bool more;                  /* the last look wasn't at everything */
    struct crew_parked *parked; /* the last one first */
    unsigned long taken;        /* how often something was */
    unsigned long looked;       /* what taken was at the last look */
    unsigned long stalls;       /* how often those that ran were found to be stuck */
    unsigned long pending;      /* answers that were begun and aren't there yet */
    bool pacer_sleeps, stopping, closed;
};

int crew_start(struct crew *crew, const struct crew_opts *opts, struct err *err) MUST_CHECK;
/* The first workers are called, to look. ERR_NOMEM: not even one could be started. */
int crew_open(struct crew *crew, struct err *err) MUST_CHECK;
void crew_close(struct crew *crew); /* nothing comes any more: no worker waits here from now on */
void crew_stop(struct crew *crew);  /* no worker is left; once, and only after crew_start */

void crew_add_request(struct crew *crew, struct gate_conn *conn);
void crew_add_answer(struct crew *crew, struct http_later *later);

/* A nudge was taken by one that didn't wait: it is given again, if it still means somebody. */
void crew_nudge_again(struct crew *crew);

/* Something waits for a worker, and were the calling one to wait for something else now, fewer than `usual` would
 * be left for it. */
bool crew_is_short(struct crew *crew);

/* The worker that was called is there, and is kept until there is something for it. False: it goes, since
 * nothing comes any more, or it is the only one left for another call. */
bool crew_come(struct crew *crew, struct crew_work *out);

/* The worker has its next request by itself: does it go on with that? Else it is to be added, behind
 * others. */
bool crew_goes_on(struct crew *crew);

/* The worker is done with what it had. As crew_come. */
bool crew_next(struct crew *crew, struct crew_work *out);

/* It goes, whether or not there is something. */
void crew_go(struct crew *crew);

/* It waits, and goes on. */
void crew_wait_begin(struct crew *crew);
void crew_wait_end(struct crew *crew);

/* Nothing waits, no other worker runs, and nobody's answer is under way. */
bool crew_is_quiet(struct crew *crew);

/* An answer is begun; it will be given to crew_add_answer, or forgotten with crew_forget_answer. */
void crew_expect_answer(struct crew *crew);
void crew_forget_answer(struct crew *crew);

#endif
