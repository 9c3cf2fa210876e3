#!/usr/bin/env bash
# Install a wheel into an empty .venv and use it while the system's Tokyo Cabinet can't be loaded.
#
# The library is hidden in a mount namespace of our own: nothing changes for the rest of the machine. Where
# namespaces are not allowed the system's copy stays in sight, and only the loaded files are checked.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

"$root/.venv/bin/python" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check "$wheel"

cat >hidden.sh <<'END'
find /lib/ /usr/lib/ /usr/local/lib/ -name 'libtokyocabinet.so*' -type f |
    while read -r library; do mount --bind /dev/null "$library" || exit 1; done && exec "$@"
END
how="with the system's Tokyo Cabinet in sight, as mount namespaces are not allowed here"
hidden=()
for namespace in "unshare --mount" "unshare --map-root-user --mount"; do
    if $namespace sh hidden.sh true 2>/dev/null; then
        read -ra hidden <<<"$namespace sh hidden.sh"
        how="with the system's Tokyo Cabinet hidden"
        break
    fi
done

cat >driver.py <<'END'
import sys
from pykesto import tc

with tc.Table("people.tct", "c") as t:
    t[b"ann"] = {b"name": b"Ann"}
    assert t[b"ann"] == {b"name": b"Ann"}

loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libtokyocabinet" in line}
assert all(path.startswith(sys.prefix) for path in loaded), f"loaded {loaded}"
END
"${hidden[@]}" venv/bin/python -I driver.py
if [ -e "$root/examples/first.py" ]; then "${hidden[@]}" venv/bin/python -I "$root/examples/first.py"; fi
echo "wheel: works $how"
