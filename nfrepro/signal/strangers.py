"""Activations that do not come from the input of a network: position embeddings, class tokens for every image."""

from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Strangers:
    """Tensors that were seen made from parameters, buffers and numbers alone, each with a number of its own.

    A class token is the shortcut of a residual addition: the branch was made from it. A position embedding is none:
    what it is first added to was made without it. Only the first addition of a stranger can tell.
    """

    def __init__(self) -> None:
        self._ancestors = WeakTensorKeyDictionary()  # tensor -> numbers of itself and of the strangers it is made from
        self._own = WeakTensorKeyDictionary()  # tensor -> its number
        self._count = 0
        self._added: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._ancestors

    def set_apart(self, tensors: Iterable[Tensor]) -> None:
        """Note `tensors` as parameters and buffers."""
        for tensor in tensors:
            self._ancestors[tensor] = frozenset()

    def meet(self, made: Iterable[Tensor], sources: list[Tensor]) -> None:
        """Note tensors `made` by a function from `sources`, if all of these are strangers."""
        if not all(tensor in self for tensor in sources):
            return
        for tensor in made:
            self._count += 1
            self._own[tensor] = self._count
            self._ancestors[tensor] = self.among(sources) | {self._count}

    def among(self, tensors: Iterable[Tensor]) -> frozenset[int]:
        """The numbers of all strangers that the strangers among `tensors` are made from."""
        found: frozenset[int] = frozenset()
        for tensor in tensors:
            found |= self._ancestors.get(tensor, frozenset())  # type: ignore[no-untyped-call]
        return found

    def is_shortcut(self, tensor: Tensor, strangers: frozenset[int]) -> bool:
        """Whether `tensor` is a stranger that is added for the first time, and to an activation made from it."""
        own: int | None = self._own.get(tensor)  # type: ignore[no-untyped-call]
        if own is None or own in self._added:
            return False
        self._added.add(own)
        return own in strangers
