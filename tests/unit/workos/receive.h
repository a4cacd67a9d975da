/* SPDX-License-Identifier: MIT */
/*
 * receive - a webhook or an action from its request to its outcome, waited for: what the HTTP server
 * does without waiting.
 */
#ifndef TESTS_WORKOS_RECEIVE_H
#define TESTS_WORKOS_RECEIVE_H

#include "workos/action.h"
#include "workos/webhook.h"

#include <semaphore.h>

static inline void receive_done(void *arg)
{
    sem_post(arg);
}

static inline enum webhook_result receive_webhook(struct workos *workos, const char *header,
                                                  const char *body, size_t body_len,
                                                  enum signature_status *out_signature,
                                                  struct err *err)
{
    struct webhook *webhook;
    enum webhook_result result =
        webhook_open(&webhook, workos, header, body, body_len, out_signature, err);
    sem_t done;

    if (result != WEBHOOK_PENDING)
        return result;
    sem_init(&done, 0, 0);
    webhook_begin(webhook, true, receive_done, &done);
    while (sem_wait(&done) < 0)
        ;
    sem_destroy(&done);
    return webhook_close(webhook, err);
}

static inline enum action_result
receive_action(struct workos *workos, const char *header, const char *body, size_t body_len,
               struct buf *response, enum signature_status *out_signature, struct err *err)
{
    struct action *action;
    enum action_result result =
        action_open(&action, workos, header, body, body_len, out_signature, err);
    sem_t done;

    if (result != ACTION_PENDING)
        return result;
    sem_init(&done, 0, 0);
    action_begin(action, true, receive_done, &done);
    while (sem_wait(&done) < 0)
        ;
    sem_destroy(&done);
    return action_close(action, response, err);
}

#endif
