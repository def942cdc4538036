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

# Whether cc can make a program. Debian's gcc alone can't: it only recommends libc6-dev.
links() {
    local program status=0
    program=$(mktemp) || return 1
    printf 'int main(void) { return 0; }\n' | cc -x c -o "$program" - 2>/dev/null || status=$?
    rm -f "$program"
    return "$status"
}

# Whether the system has certificates to trust, wherever OpenSSL looks for them. SSL_CERT_FILE isn't enough: the daemons of the tests don't
# get the environment, and one of a debug build panics without any.
has_certificates() {
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem; do
        [ -r "$file" ] && return
    done
    return 1
}

need_rust() {
    have cargo || [ ! -r "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    have cargo || die "cargo is needed: https://rustup.rs installs it"
    need cc gcc
    if ! links; then
        say "cc can't link a program: installing the package libc6-dev"
        packages libc6-dev || true
        links || die "cc can't link a program; install the C library's development files (Debian and Ubuntu: package libc6-dev) and run this again"
    fi
    if ! has_certificates; then
        say "no certificates to trust: installing the package ca-certificates"
        packages ca-certificates || true
        has_certificates || die "certificates to trust are needed; install them (Debian and Ubuntu: package ca-certificates) and run this again"
    fi
}
