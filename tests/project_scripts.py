"""The scripts of analysis/ and docs/ as modules."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


@cache
def script(name: str, folder: str = "analysis") -> ModuleType:
    """The module of FOLDER/NAME.py."""
    specification = importlib.util.spec_from_file_location(f"{name}_script", ROOT / folder / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module
