"""The scripts of analysis/ as modules."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ANALYSIS = Path(__file__).parents[1] / "analysis"


@cache
def script(name: str) -> ModuleType:
    """The module of analysis/NAME.py."""
    specification = importlib.util.spec_from_file_location(f"{name}_script", ANALYSIS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module
