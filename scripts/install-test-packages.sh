#!/bin/sh
# Install what the tests need of Debian; does nothing where all of it is there.
#
# Playwright drives Debian's Chromium in place of a download of its own: one browser, kept up to
# date by Debian. Playwright's own driver is a Node that needs libatomic, which a small system
# lacks; and a machine without any font would show pages without text.
#
# tests/proxies has real proxies between the server and browsers, Firefox among them.
#
# tests/tools downloads with the programs that people use, has ffmpeg make and read films, and has
# strace fail a disk.
set -eu

missing=
[ -x /usr/bin/chromium ] || missing="chromium fonts-liberation"
# By its path: a user's PATH has no /sbin.
if [ -x /sbin/ldconfig ] && ! /sbin/ldconfig -p | grep -q 'libatomic\.so\.1'; then
    missing="$missing libatomic1"
fi
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need_sbin() {
    [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need aria2c aria2
need caddy caddy
need curl curl
need ffmpeg ffmpeg
need firefox-esr firefox-esr
need_sbin haproxy haproxy
need_sbin nginx nginx
need_sbin varnishd varnish
need_sbin apache2 apache2
need strace strace
need unzip unzip
need wget wget
missing=${missing# }
[ -n "$missing" ] || exit 0

fail() {
    echo "make test: the tests need $missing, and $*" >&2
    echo "Install it as root, then run make test again:" >&2
    echo "    apt-get update && apt-get install --yes $missing" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

command -v apt-get >/dev/null 2>&1 || fail "this machine has no apt-get to install it with."
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "you are not root and there is no sudo."
fi

echo "make test: installing $missing for the tests"
as_root apt-get update -qq || fail "apt-get update failed."
# The tests start the proxies themselves: none is to run as a service of this machine.
# shellcheck disable=SC2086 # a list of packages
as_root env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 RUNLEVEL=1 \
    apt-get install -qq --yes --no-install-recommends $missing >/dev/null ||
    fail "apt-get install failed."
[ -x /usr/bin/chromium ] || fail "apt-get left none at /usr/bin/chromium."
for tool in aria2c caddy curl ffmpeg firefox-esr strace unzip wget; do
    command -v "$tool" >/dev/null 2>&1 || fail "apt-get left no $tool on the PATH."
done
