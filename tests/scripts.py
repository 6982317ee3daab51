"""The scripts of experiments/ as modules, and what they recorded."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).name, EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(name: str) -> Any:
    return json.loads((EXPERIMENTS / "results" / f"{name}.json").read_text(encoding="utf-8"))
