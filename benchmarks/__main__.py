"""python -m benchmarks [NAME] [options of that benchmark]: engine, if no name is given."""

from __future__ import annotations

import importlib
import importlib.util
import sys

NAMES = [
    name for name in ("engine", "driver", "codec", "query", "objects") if importlib.util.find_spec(f"benchmarks.{name}")
]


def main(argv: list[str]) -> int:
    named = bool(argv) and not argv[0].startswith("-")
    if named and argv[0] not in NAMES:
        print(f"benchmarks: there is no {argv[0]!r}, only {', '.join(NAMES)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f".{argv[0] if named else 'engine'}", "benchmarks")
    return int(module.main(argv[named:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
