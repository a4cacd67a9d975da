/* SPDX-License-Identifier: MIT */
#include "app/interrupt.h"

#include "base/compiler.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t came;

static void on_signal(int signal_number)
{
    (void)signal_number;
    came = 1;
}

void interrupt_catch(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction old;

    /* What was ignored when we were started (nohup) stays so. */
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool interrupt_came(void)
{
    return came != 0;
}

bool interrupt_ask(void *arg)
{
    (void)arg;
    return interrupt_came();
}
