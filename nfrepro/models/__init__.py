"""The networks that the paper compares. `create(name, **options)` builds one; torch is loaded only then."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfrepro.models.folding import fold as fold
    from nfrepro.models.haiku import load_haiku as load_haiku
    from nfrepro.models.registry import create as create
    from nfrepro.models.timm_weights import load_timm as load_timm
    from nfrepro.models.timm_weights import timm_switches as timm_switches

# Exported name -> the module that defines it.
_PLACES = {
    "create": "registry",
    "fold": "folding",
    "load_haiku": "haiku",
    "load_timm": "timm_weights",
    "timm_switches": "timm_weights",
}
__all__ = ["create", "fold", "load_haiku", "load_timm", "timm_switches"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"nfrepro.models.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
