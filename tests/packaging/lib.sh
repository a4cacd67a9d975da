# shellcheck shell=bash
# What the tests of the package share; they run where scripts/test-package has them run.

test_count=0

# begin TEXT: what is looked at now.
begin() {
    what=$1
    test_count=$((test_count + 1))
    echo "  $what"
}

fail() {
    echo "FAILED: $what: $*" >&2
    [[ ! -s /tmp/output ]] || sed 's/^/  | /' /tmp/output >&2
    exit 1
}

# run COMMAND…: its output goes to /tmp/output.
run() {
    "$@" >/tmp/output 2>&1 </dev/null || fail "exit code $? of: $*"
}

# refuses CODE COMMAND…
refuses() {
    local wanted=$1 code=0
    shift
    "$@" >/tmp/output 2>&1 </dev/null || code=$?
    ((code == wanted)) || fail "exit code $code and not $wanted of: $*"
}

says() {
    grep -qE -- "$1" /tmp/output || fail "it doesn't say: $1"
}

says_not() {
    ! grep -qE -- "$1" /tmp/output || fail "it says: $1"
}

is_there() {
    local path
    for path in "$@"; do
        [[ -e $path || -L $path ]] || fail "$path isn't there"
    done
}

is_gone() {
    local path
    for path in "$@"; do
        [[ ! -e $path && ! -L $path ]] || fail "$path is there"
    done
}

# has PATH MODE OWNER:GROUP
has() {
    local found
    found=$(stat -c '%a %U:%G' "$1") || fail "$1 isn't there"
    [[ $found == "$2 $3" ]] || fail "$1 is $found and not $2 $3"
}

has_user() {
    getent passwd authkitd >/dev/null
}
