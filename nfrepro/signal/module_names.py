"""Modules of a network chosen by their names."""

import re

from torch import nn

from nfrepro.errors import InputError, did_you_mean, first_three


def matching_modules(model: nn.Module, pattern: str, option: str) -> set[nn.Module]:
    """The modules whose whole dotted name the regular expression `pattern` matches.

    Raises `InputError`, naming the `option` that holds the pattern, if it is invalid or matches none.
    """
    names = dict(model.named_modules())
    try:
        chosen = {module for name, module in names.items() if re.fullmatch(pattern, name)}
    except re.error as error:
        raise InputError(f"{option}={pattern!r} is not a regular expression: {error}") from None
    if not chosen:
        hint = did_you_mean(pattern.replace("\\", ""), names)
        hint = hint or f"; its modules are {first_three([name for name in names if name])}"
        raise InputError(f"{option}={pattern!r} matches no module's whole name in {type(model).__name__}{hint}")
    return chosen
