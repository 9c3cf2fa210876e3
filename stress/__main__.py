"""Processes on one database that are killed, stopped and starved in the midst of commits; all they did is checked.

Workers transact until they are killed; others watch from outside. After each round all are killed at once, and a fresh
process recovers and verifies. The seed decides what is tried and whom faults meet; how processes meet one another is
never the same twice. Exit status: 0 all is well, 1 a violation was found, 2 an option was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pykesto

from .options import Options, parser
from .page import page
from .progress import Progress
from .report import as_json, show
from .run import Failed, Run


def main(argv: list[str]) -> int:
    given = parser(__doc__ or "").parse_args(argv)
    if given.path is not None and given.path.exists() and (not given.path.is_dir() or any(given.path.iterdir())):
        print(f"stress: --path {given.path} is not empty; give a new directory", file=sys.stderr)
        return 2
    values = {name: value for name, value in vars(given).items() if name not in ("path", "html", "json")}
    values["seed"] = int.from_bytes(os.urandom(4), "big") if given.seed is None else given.seed
    try:
        directory = given.path or Path(tempfile.mkdtemp(prefix="pykesto-stress."))
        directory.mkdir(parents=True, exist_ok=True)
        if given.html is not None:
            given.html.touch()
    except OSError as error:
        print(f"stress: can't make {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    said = run(Options(**values), directory.absolute(), keep=given.path is not None, quiet=given.json)
    if given.html is not None:
        given.html.write_text(page(said))
    if given.json:
        print(json.dumps(said, indent=2))
    else:
        show(said)
    return 0 if said["passed"] else 1


def run(options: Options, directory: Path, *, keep: bool, quiet: bool) -> dict[str, object]:
    progress = Progress() if sys.stderr.isatty() and not quiet else None
    one = Run(options, directory, progress)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        one.run()
    except (Failed, pykesto.Error, OSError) as error:
        one.problems.append(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        one.problems.append("interrupted")
    finally:
        one.close()
        if progress is not None:
            progress.clear()
    keep = keep or bool(one.problems)
    if not keep:
        shutil.rmtree(directory)
    return as_json(one, str(directory) if keep else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
