"""Options of a network from outside this package: a user's own, timm's or torchvision's. No torch."""

import importlib.util
import json
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from nfrepro.errors import InputError
from nfrepro.options import Options
from nfrepro.plugins.names import Call, check_name, check_options, label

# The arguments of a network's maker, other than its options.
MAKER = Call(named=("num_classes",), if_taken=("in_channels",))
# Packages with networks by name, each with the arguments that `options` must not set because the run does.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "timm": ("num_classes", "in_chans", "pretrained"),
    "torchvision": ("num_classes", "weights", "weights_backbone"),
}


class OwnNetworkOptions(Options):
    """A network by the name of its maker: `my_pkg.nets:make`, `timm:convnext_atto`, `torchvision:resnet18`."""

    # Name of the maker: make(num_classes=…, **options), with in_channels=… if it takes that, returns an nn.Module.
    name: str
    # Options passed to the maker.
    options: dict[str, Any] = Field(default={}, validate_default=True)

    @field_validator("name")
    @classmethod
    def _can_be_found(cls, name: str) -> str:
        library = name.partition(":")[0]
        if library not in LIBRARIES:
            return check_name(name)
        if importlib.util.find_spec(library) is None:
            raise InputError(f"{name}: {library} is not installed: pip install {library}")
        return name

    @field_validator("options")
    @classmethod
    def _are_taken(cls, options: dict[str, Any], earlier: ValidationInfo) -> dict[str, Any]:
        if (name := earlier.data.get("name")) is None:  # the name itself is invalid
            return options
        library = name.partition(":")[0]
        if library not in LIBRARIES:
            check_options(name, options, MAKER)
        for option in set(options).intersection(LIBRARIES.get(library, ())):
            raise InputError(f"{name}: option {option} is set by the run itself: leave it out")
        return options

    @property
    def label(self) -> str:
        """Readable prefix of a run's name."""
        library, _, network = self.name.partition(":")
        return network if library in LIBRARIES else label(self.name)

    def __hash__(self) -> int:
        return hash((self.name, json.dumps(self.options, sort_keys=True)))
