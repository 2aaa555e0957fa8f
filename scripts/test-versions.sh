#!/bin/sh
# Run the fast tests in an environment of its own, in .cache/$1:
#
#     oldest    with the oldest of each dependency that pyproject.toml allows, on Python 3.11
#     newest    with the newest Python that is found, or that uv can fetch
#
# uv installs them: it comes from PyPI, to .cache/uv. What is there already is not made again.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
which=$1
home=$root/.cache/$which
uv=$root/.cache/uv/bin/uv
jobs=${JOBS:-2}

fail() {
    echo "make $which: $*" >&2
    exit 1
}

is_python() { # $1 is version $2
    "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" 2>/dev/null
}

find_python() { # version $1, on the PATH or kept by pyenv
    for python in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python3; do
        if is_python "$python" "$1"; then
            echo "$python"
            return
        fi
    done
    return 1
}

find_newest() {
    find_python 3.14 && return
    "$uv" python install --quiet 3.14 2>/dev/null && "$uv" python find 3.14 && return
    find_python 3.13 || find_python 3.12 || find_python 3.11
}

if [ ! -x "$uv" ]; then
    "$root/.venv/bin/python" -m venv --clear "$root/.cache/uv"
    "$root/.cache/uv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9' ||
        fail "could not install uv."
fi
"$uv" lock --check --quiet --directory "$root" ||
    fail "uv.lock is not what pyproject.toml asks for: run $uv lock"

case $which in
oldest)
    python=$(find_python 3.11) || fail "needs Python 3.11: later ones have no builds of what is old."
    resolution=lowest-direct
    ;;
newest)
    python=$(find_newest) || fail "found no Python."
    resolution=highest
    ;;
*) fail "knows oldest and newest." ;;
esac

if [ ! -e "$home/made.stamp" ] || [ "$root/pyproject.toml" -nt "$home/made.stamp" ]; then
    "$uv" venv --quiet --clear --no-project --python "$python" "$home"
    "$uv" pip install --quiet --python "$home/bin/python" --resolution "$resolution" \
        --directory "$root" --editable '.[server,brotli]' --group test ||
        fail "could not install the $which."
    touch "$home/made.stamp"
fi
echo "make $which: $("$home/bin/python" --version), fast tests"
cd "$root"
exec "$home/bin/python" -m pytest -n "$jobs" --dist loadfile --no-loadscope-reorder -q \
    -p no:cacheprovider -m "not slow and not browser"
