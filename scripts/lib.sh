# shellcheck shell=bash
# What the scripts share. Sourced, never run: . "$(dirname "$0")/lib.sh"

say() {
    printf '%s\n' "$@"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

step_tail=30

# run_step TEXT LOG COMMAND…: the command's output goes to the file LOG; here appear TEXT, a sign of
# life every 10 seconds, and, if it fails, the last $step_tail lines of LOG. Returns the
# command's exit code.
run_step() {
    local text=$1 log=$2 start=$SECONDS pid code=0 next=10 took
    shift 2
    mkdir -p "$(dirname "$log")"
    say "$text"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    # A signal that ends us must not leave it running behind our back.
    # shellcheck disable=SC2064  # this pid, now
    trap "kill $pid 2>/dev/null || true; exit 130" INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - start >= next)); then
            say "  … still going on after $next s$(last_line "$log")"
            next=$((next + 10))
        fi
    done
    wait "$pid" || code=$?
    trap - INT TERM
    took=$((SECONDS - start))
    if ((code != 0)); then
        say "  failed after $took s with exit code $code; the end of $log:"
        tail -n "$step_tail" "$log" | sed 's/^/  | /'
    elif ((took >= 10)); then
        say "  done in $took s"
    fi
    return "$code"
}

# last_line FILE: ": " and what the command is at, short enough for one line; nothing if it is silent.
last_line() {
    tail -c 2000 "$1" | tr -d '\000' | tr '\r' '\n' | awk 'NF { line = $0 } END { if (line) print ": " substr(line, 1, 70) }'
}

# give_back PATH…: what root made in a checkout of somebody else becomes theirs, so that they can
# build and clean up without sudo later.
give_back() {
    local owner path
    ((EUID == 0)) || return 0
    owner=$(stat -c %u:%g .)
    [[ $owner == 0:* ]] && return 0
    for path in "$@"; do
        [[ ! -e $path ]] || chown -R "$owner" "$path"
    done
}

# The Node that the tests were written for comes with them, since Debian 12's is too old.
node_binary() {
    local candidate
    for candidate in tests/integration/node_modules/node-linux-*/bin/node; do
        [[ ! -x $candidate ]] || { echo "$PWD/$candidate" && return; }
    done
    command -v node
}

# answers_200 ADDRESS PATH: without curl, which a bare machine hasn't.
answers_200() {
    local host=${1%:*} port=${1##*:} status=''
    {
        exec 3<>"/dev/tcp/$host/$port" &&
            printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3 &&
            read -r -t 2 status <&3
    } 2>/dev/null || true
    exec 3>&- || true
    [[ $status == 'HTTP/1.1 200'* ]]
}

# avoid_aslr: sets without_aslr to what sanitized programs have to be run under, often nothing. The
# sanitizers of gcc 12 and clang 14 can't live with more than 28 random bits in the addresses of
# mappings, which newer kernels give: TSan says "unexpected memory mapping", ASan crashes at times.
# shellcheck disable=SC2034  # for those who source this file
avoid_aslr() {
    local bits=/proc/sys/vm/mmap_rnd_bits
    without_aslr=()
    if [[ -r $bits ]] && (($(cat $bits) <= 28)); then
        return
    fi
    if setarch -R true 2>/dev/null; then
        without_aslr=(setarch -R)
    else
        say "Note: the sanitizers may fail here (\"unexpected memory mapping\"), since addresses are too" \
            "random for them and may not be made less so. As root: sysctl vm.mmap_rnd_bits=28"
    fi
}
