# Shared by the scripts here: what is needed is installed if it can be, and said if it can't. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo -n "$@" || sudo "$@"; else return 1; fi
}

apt_ready=
# packages NAME...: installs Debian packages. Fails where there is no apt or no way to become root.
packages() {
    have apt-get || return 1
    if [ -z "$apt_ready" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"
        apt_ready=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# need COMMAND PACKAGE: the command is there, or is installed, or the script ends.
need() {
    have "$1" && return
    say "$1 is missing: installing the package $2"
    packages "$2" || true
    have "$1" || die "$1 is needed and could not be installed; install it (Debian and Ubuntu: package $2) and run this again"
}

# missing COMMAND:PACKAGE...: prints the packages of the commands that aren't there.
missing() {
    for pair in "$@"; do have "${pair%%:*}" || printf '%s\n' "${pair##*:}"; done | sort -u
}

# need_all COMMAND:PACKAGE...: as need, with one installation.
need_all() {
    lacking=$(missing "$@")
    [ -n "$lacking" ] || return 0
    say "installing:" $lacking
    packages $lacking || true
    lacking=$(missing "$@")
    [ -z "$lacking" ] || die "these could not be installed:" $lacking "; install them and run this again"
}

need_fuse() {
    need fusermount3 fuse3
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
    [ -e /dev/fuse ] || die "/dev/fuse is missing: load the kernel module fuse, or give the container the device (--device /dev/fuse --cap-add SYS_ADMIN)"
    [ -r /dev/fuse ] && [ -w /dev/fuse ] || die "/dev/fuse can't be opened by $(id -un): run this as root, or make the device 0666, as distributions do"
}

need_rust() {
    have cargo || [ ! -r "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    have cargo || die "cargo is needed: https://rustup.rs installs it"
    need cc gcc
}
