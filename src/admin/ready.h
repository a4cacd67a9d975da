/* SPDX-License-Identifier: MIT */
/*
 * ready - is everything as it should be? /readyz of the admin listener, in words.
 *
 *     {"status":"ready","problems":[],"warnings":["3 events are dead: …"],"poll":{"age_s":12,"failing":false}}
 *
 * A problem needs a hand now, or keeps traffic from being served; with one the answer is 503, its status
 * "trouble", and "error" has the first problem as every error of ours does:
 *     poll_failing      the Events API wasn't read for five intervals of --poll, and a minute at least
 *     disk_full         no event can be stored
 *     keys_unavailable  access tokens can't be checked, since no key set could be read yet
 * A warning leaves it at 200, as the server does all that it should:
 *     the last load of the script, or of the certificate, was refused (the one before goes on); the
 *     certificate has expired, isn't valid yet or expires soon; events are dead; the last reading of
 *     the Events API, or of the key set, failed
 *
 * Threads    the admin listener's.
 */
#ifndef ADMIN_READY_H
#define ADMIN_READY_H

#include "http/message.h"

struct admin;

void ready_answer(struct admin *admin, struct http_response *response);

#endif
