"""The networks that the paper compares. `create(name, **options)` builds one; torch is loaded only then."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfrepro.models.registry import create as create

__all__ = ["create"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from nfrepro.models import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
