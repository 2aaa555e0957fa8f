#!/bin/sh
# Make the virtual environment $1 with $PYTHON, or say what the machine lacks.
#
# Debian ships `venv` without `ensurepip`; then `python3 -m venv` fails half-way and leaves a
# directory that looks like an environment. So what is needed is asked for before it starts.
set -eu

venv=$1
python=${PYTHON:-python3}

fail() {
    echo "make: $*" >&2
    exit 1
}

has_pip() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

can_make_venv() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null
}

if has_pip && is_new_enough "$venv/bin/python"; then
    exit 0
fi

command -v "$python" >/dev/null 2>&1 ||
    fail "$python was not found. Install Python 3.11 or later, or name yours: make PYTHON=..."
is_new_enough "$python" ||
    fail "$python is not Python 3.11 or later. Name one that is: make PYTHON=python3.11"

if ! can_make_venv; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    install="apt-get update && apt-get install --yes $package"
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "make: $python cannot make environments yet; installing $package"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes "$package" ||
            fail "could not install $package. Once it is there, run make again."
    else
        fail "$python cannot make environments. As root: $install. Then run make again."
    fi
    can_make_venv || fail "$python still lacks ensurepip after installing $package"
fi

"$python" -m venv --clear "$venv"
