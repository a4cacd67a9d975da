/* SPDX-License-Identifier: MIT */
/*
 * setup - the webhook endpoint at WorkOS, as it has to be.
 *
 * Looks for an endpoint with the URL and makes it enabled with exactly the event types that are wanted;
 * creates it when there is none. What is right already is left alone, so that a second call changes
 * nothing.
 *
 * WorkOS doesn't send every type to webhooks, and refuses the whole list because of one that it
 * doesn't. Which one, its answer says in a form that isn't documented: so names and places in the list
 * are looked for in it, and when there are none, each optional type is tried alone.
 *
 * Threads    any; it blocks.
 * Ownership  the report is the caller's: setup_report_release, also after an error. It has a secret.
 * Errors     those of api_call. ERR_INVALID also when WorkOS refuses a required type.
 */
#ifndef WORKOS_SETUP_H
#define WORKOS_SETUP_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/api.h"

#include <stdbool.h>

struct setup_request {
    const char *url;
    const char *required; /* event types, by commas or spaces */
    const char *optional; /* those that are left out when WorkOS refuses them */
};

enum setup_outcome { SETUP_CREATED, SETUP_CHANGED, SETUP_UNCHANGED };

struct setup_report {
    enum setup_outcome outcome;
    char id[128];
    bool was_there;     /* before we asked for one: then its secret may be known */
    bool enabled_again; /* it was disabled */
    struct buf types;   /* of the endpoint now; the lists are by ", ", "" for none */
    struct buf added;   /* to an endpoint that was there already */
    struct buf removed;
    struct buf refused; /* optional types that WorkOS doesn't send to webhooks */
    char *secret;       /* NULL: WorkOS didn't say it */
};

int setup_webhook(struct api *api, const struct setup_request *request, struct setup_report *out,
                  struct err *err) MUST_CHECK;
void setup_report_release(struct setup_report *report);

#endif
