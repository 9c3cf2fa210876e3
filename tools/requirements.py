"""Print what pyproject.toml requires for one purpose, a line each: `build-system`, or the name of an extra."""

import sys
import tomllib

with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)
(purpose,) = sys.argv[1:]
extras = project["project"]["optional-dependencies"]
print(*(project["build-system"]["requires"] if purpose == "build-system" else extras[purpose]), sep="\n")
