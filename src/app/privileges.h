/* SPDX-License-Identifier: MIT */
/*
 * privileges - what the process gives up before it does anything, with or without a supervisor.
 *
 *   - It never gains any by running another program (no_new_privs), and has none to hand on.
 *   - Its memory holds secrets: no core dumps, and nobody but root may look into it while it runs,
 *     not even the same user. A debugger or a profiler that root runs works as ever.
 *   - Of root's capabilities it keeps those without which files couldn't be read again at a reload
 *     or be given to the database's owner, and, if told so, the one for ports below 1024. Root owns
 *     much of a system even without capabilities, though: a user of its own, which the unit in
 *     scripts/authkitd.service gives it, is the better wall.
 *
 * A capability belongs to a thread, and there is no taking it from all of them later. So this comes
 * before the first other thread, and the one for low ports, which the listeners need when threads
 * are running already, stays for good when one of them has such a port.
 *
 * Threads    main, without others.
 * Errors     a system that refuses a step is no reason not to serve: it is logged.
 */
#ifndef APP_PRIVILEGES_H
#define APP_PRIVILEGES_H

#include <stdbool.h>

void privileges_drop(bool needs_low_ports);

/* True when only root, or CAP_NET_BIND_SERVICE, may listen at the address ("0.0.0.0:443"). */
bool privileges_is_low_port(const char *address);

#endif
