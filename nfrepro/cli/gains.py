"""The gain of named activations, as a table for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from nfrepro.cli.screen import table_lines
from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.lookup import NamedActivation
from nfrepro.signal import moments


@dataclass(frozen=True)
class Gain:
    """The gain gamma = 1 / sqrt(variance) of g(z), z ~ N(0, 1); unknown numbers are None."""

    name: str
    gamma: float | None
    mean: float | None
    variance: float | None
    published: float | None
    problem: str | None  # why there is no usable gain

    @staticmethod
    def lines(gains: Sequence["Gain"]) -> list[str]:
        """A header, and a line for each gain."""
        head = ("activation", "gamma", "mean", "variance", "published", "off by")
        return table_lines([head, *(found._cells() for found in gains)], range(1, 5))

    def _cells(self) -> tuple[str, ...]:
        numbers = (self.gamma, self.mean, self.variance, self.published)
        off = f"{100 * (self.published / self.gamma - 1):+.3f} %" if self.published and self.gamma else ""
        return (self.name, *("-" if value is None else f"{value:.9f}" for value in numbers), self.problem or off)


def gain_of(activation: NamedActivation) -> Gain:
    """The exact numbers of an activation; only gamma for one that mixes channels."""
    known = ACTIVATIONS.get(activation.name)
    if known is not None and not known.elementwise:
        return Gain(activation.name, known.gamma("exact"), None, None, known.published_gain, None)
    try:
        found = moments(activation.function)
    except InputError as error:
        problem = str(error).removeprefix(f"activation {activation.function} ")
        return Gain(activation.name, None, None, None, activation.published_gain, problem)
    return Gain(activation.name, found.gain, found.mean, found.variance, activation.published_gain, None)
