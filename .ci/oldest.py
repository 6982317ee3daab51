"""Prints a pip constraints file that pins every dependency of pyproject.toml to the oldest version it allows."""

import itertools
import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
required = itertools.chain(project["dependencies"], project["optional-dependencies"]["test"])
for requirement in required:
    name, version = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement).groups()
    print(f"{name}=={version}")
