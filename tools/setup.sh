#!/usr/bin/env bash
# Make .venv with pykesto in it, editable, and install what that needs from Debian and PyPI.
#
# Run by `make dev`. May be run again at any time, and by several at once: it does what is missing,
# and compiles only what changed. $PYTHON chooses the interpreter for a new .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 9<. && flock 9

py=.venv/bin/python
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
quietly() {  # shows what a command printed only if it fails
    "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; fail "failed: $*"; }
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
choose_python() {
    local names=(python3 python3.13 python3.12 python3.11) name
    if [ -n "${PYTHON:-}" ]; then names=("$PYTHON"); fi
    for name in "${names[@]}"; do
        if new_enough "$name"; then command -v "$name"; return; fi
    done
    fail "no Python >= 3.11 (tried ${names[*]}); install one, then run: make dev PYTHON=/path/to/python3"
}

has_headers() { "$1" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
missing() {  # the Debian packages that a build with this Python lacks
    local version compiler
    version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    read -ra compiler <<<"${CC:-$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}"
    command -v "${compiler[0]}" >/dev/null || echo gcc libc6-dev
    printf '#include <tctdb.h>\nint main(void) { return tctdbnew() == 0; }\n' |
        "${compiler[@]}" -x c -o "$log" - -ltokyocabinet 2>/dev/null || echo libtokyocabinet-dev
    has_headers "$1" || echo "$version-dev"
    has_venv "$1" || echo "$version-venv"
}

install() {
    command -v apt-get >/dev/null ||
        fail "no apt-get here; install what these packages of Debian hold, then run again: $*"
    local as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" != 0 ]; then
        sudo true || fail "neither root nor sudo; let an administrator run: apt-get install $*"
        as_root=(sudo "${as_root[@]}")
    fi
    say "installing $* with apt-get"
    # An update that fails for one of many sources, somebody else's perhaps, need not stop us.
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 </dev/null || cat "$log" >&2
    quietly "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

python=$py
if ! new_enough $py || ! $py -m pip --version >/dev/null 2>&1; then python=$(choose_python); fi

packages=$(missing "$python" | xargs)
if [ -n "$packages" ]; then
    # shellcheck disable=SC2086  # a list of words
    install $packages
    packages=$(missing "$python" | xargs)
    [ -z "$packages" ] || fail "$python still lacks what $packages should have brought; try another: PYTHON=..."
fi

if [ "$python" != $py ]; then
    say "making .venv with $("$python" --version)"
    quietly "$python" -m venv --clear .venv
fi

touch .venv/begun  # becomes the stamp: a source saved during the build is newer, and built next time
if [ ! .venv/installed -nt pyproject.toml ] || [ ! .venv/installed -nt tools/setup.sh ]; then
    say "installing pykesto, editable, with what its tests and checks need"
    # Without isolation the compiler's output stays in build/, and a later build is quick.
    mapfile -t requires < <($py tools/requirements.py build-system)
    quietly $py -m pip install --quiet --disable-pip-version-check "${requires[@]}"
    quietly $py -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[test,check]'
    touch .venv/installed
else
    say "compiling what changed"
    quietly $py setup.py build_ext --inplace
fi
mv .venv/begun .venv/stamp
