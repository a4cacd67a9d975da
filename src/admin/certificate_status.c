/* SPDX-License-Identifier: MIT */
#include "admin/certificate_status.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct certificate_status {
    pthread_mutex_t lock;
    struct certificate_load load; /* guarded by lock */
};

int certificate_status_new(struct certificate_status **out, struct err *err)
{
    struct certificate_status *status = calloc(1, sizeof(*status));

    if (!status)
        return err_set(err, ERR_NOMEM, "no memory for the certificate's status");
    pthread_mutex_init(&status->lock, NULL);
    *out = status;
    return 0;
}

void certificate_status_free(struct certificate_status *status)
{
    if (!status)
        return;
    pthread_mutex_destroy(&status->lock);
    free(status);
}

void certificate_status_loaded(struct certificate_status *status, int64_t from_ms, int64_t to_ms)
{
    pthread_mutex_lock(&status->lock);
    status->load = (struct certificate_load){.from_ms = from_ms, .to_ms = to_ms};
    pthread_mutex_unlock(&status->lock);
}

void certificate_status_refused(struct certificate_status *status, const char *problem)
{
    pthread_mutex_lock(&status->lock);
    status->load.refused_ms = clock_wall_ms();
    snprintf(status->load.problem, sizeof(status->load.problem), "%s", problem);
    pthread_mutex_unlock(&status->lock);
}

void certificate_status_get(struct certificate_status *status, struct certificate_load *out)
{
    pthread_mutex_lock(&status->lock);
    *out = status->load;
    pthread_mutex_unlock(&status->lock);
}
