/* SPDX-License-Identifier: MIT */
#include "app/privileges.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOW_PORTS_END = 1024 };

#define CAP(number) (UINT64_C(1) << (number))

/* DAC_OVERRIDE: scripts, certificates and databases of other users, which root could read when it
 * started (CAP_DAC_READ_SEARCH would be reading alone, and a way out of containers besides). CHOWN:
 * SQLite gives the files beside a database to the database's owner, who couldn't read it else. */
static const uint64_t always_kept = CAP(CAP_DAC_OVERRIDE) | CAP(CAP_CHOWN);

bool privileges_is_low_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    return colon && text_to_u64(colon + 1, strlen(colon + 1), LOW_PORTS_END - 1, &port) && port > 0;
}

static void complain(const char *what)
{
    log_warn("a privilege couldn't be dropped", log_str("what", what),
             log_str("error", strerror(errno)));
}

static void hide_memory(void)
{
    const struct rlimit none = {0};

    if (setrlimit(RLIMIT_CORE, &none) < 0)
        complain("core dumps");
    /* A core_pattern that is a pipe doesn't ask the limit, but does ask this. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        complain("dumpable");
}

/* What a program that we run would get or could get; we run none. */
static void hand_on_nothing(void)
{
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return; /* only root may: without no_new_privs that would matter */
}

static void keep_capabilities(uint64_t kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    bool has_more = false;

    if (syscall(SYS_capget, &header, data) < 0) {
        complain("capabilities");
        return;
    }
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t may = (uint32_t)(kept >> (32 * i));

        has_more |= (data[i].permitted & ~may) != 0;
        data[i].permitted &= may;
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    /* Under a filter of system calls this one may not exist; where there is nothing to give up, as
     * under the systemd unit, it isn't needed either. */
    if (has_more && syscall(SYS_capset, &header, data) < 0)
        complain("capabilities");
}

void privileges_drop(bool needs_low_ports)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        complain("no_new_privs");
    hide_memory();
    hand_on_nothing(); /* needs a capability that goes next */
    keep_capabilities(always_kept | (needs_low_ports ? CAP(CAP_NET_BIND_SERVICE) : 0));
}
