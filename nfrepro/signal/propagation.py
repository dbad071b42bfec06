"""Signal propagation plots as a table: what happens to the signal in every residual block (paper section 3)."""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.signal.channel_axis import layout_of
from nfrepro.signal.channel_statistics import ChannelStatistics, channel_statistics
from nfrepro.signal.declared_blocks import DeclaredBlock, watched
from nfrepro.signal.evaluation import evaluation
from nfrepro.signal.module_names import matching_modules
from nfrepro.signal.residual_additions import ResidualAddition, ResidualAdditions
from nfrepro.signal.torch_functions import RANKS
from nfrepro.signal.unit_gains import unit_gains
from nfrepro.signal.unmeasured_blocks import nothing_found, require_all_seen

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]

# A branch with a smaller share of the output's variance does not show in any statistic of the output.
_SILENT = 1e-6
# Names of the blocks of this package's networks: stage, then place in the stage, from 0.
_STAGED = re.compile(r"(?:.*\.)?stages\.(\d+)\.(\d+)")


def propagation(
    model: nn.Module,
    x: Tensor,
    *,
    blocks: str | None = None,
    batch_statistics: bool = True,
    extra: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    with_unit_gains: bool = False,
) -> "pd.DataFrame":
    """The three statistics of a signal propagation plot of `model` fed with `x`, one row per residual block.

    `x` is a batch of images [N, C, H, W], sequences [N, T, C] or tokens [N, T]. Activations of blocks may be maps, with
    channels in any dimension, or sequences; statistics are over images and positions.

    Columns: `block` and `stage` (from 1), `transition`, `avg_sq_mean` and `avg_var` of the block's output, `res_var` of
    its residual branch before stochastic depth and scalars (alpha, SkipInit); per-channel gains (LayerScale) belong to
    the branch. Rows are in order of execution; `attrs["modules"]` holds the names of the blocks' modules, "" for the
    model itself, and `attrs["layouts"]` the layouts found for them, such as "[N, T, C]" (by the rules in
    `channel_axis.py`).

    Some modules declare themselves as blocks (`DeclaredBlock`). Other blocks are found by their additions, shortcut +
    branch (`ResidualAdditions`): the block is the innermost module that makes exactly one. If a module makes several,
    say in a loop, each is a block whose output is the sum. The regular expression `blocks` instead chooses the modules
    whose whole name it matches; `res_var` is NaN for a module without residual addition.

    Stage and transition are read from names `stages.I.J` of declared blocks. Otherwise a stage begins where the number
    of positions or channels changes, and transition blocks are the first of each stage and those with a layer in their
    shortcut.

    `extra` adds a column for each name: the scalar that its function computes from the block's output [N, C, H, W] (NaN
    if the output is a sum that no module returns).

    `with_unit_gains` sets gains that start near zero (SkipInit, LayerScale; `unit_gains.small_gains`) to 1 during the
    measurement. `attrs["silent"]` holds the names of the blocks whose branch adds less than a millionth of the output's
    variance.

    Runs one forward pass in evaluation mode, with the statistics of the batch in BatchNorm layers (or the running ones,
    without `batch_statistics`). Modes, hooks, buffers of BatchNorm layers and random state are restored afterwards.

    Raises `ValueError` if there are no blocks, for scripted models, for residual additions that cannot be measured, and
    for statistics that are not finite. Exceptions of the model propagate.
    """
    if x.ndim not in (2, *RANKS) or (x.ndim == 2 and x.is_floating_point()):
        raise InputError(f"x must be images [N, C, H, W], sequences [N, T, C] or tokens [N, T], got {list(x.shape)}")
    if _is_scripted(model):
        raise InputError(f"{type(model).__name__} is a scripted module (torch.jit): its additions cannot be seen")
    recorder = _Recorder(model, x, None if blocks is None else matching_modules(model, blocks, "blocks"), extra or {})
    gains = unit_gains(model) if with_unit_gains else nullcontext()
    with evaluation(model, batch_statistics), gains, recorder.attached():
        model(x)
    if blocks is None:
        require_all_seen(model, recorder.additions)
    if not recorder.records:
        raise InputError(nothing_found(model, recorder.additions.of_vectors, blocks))
    return _table(sorted(recorder.records, key=lambda record: record.order), list(extra or {}))


@dataclass(frozen=True)
class _Record:
    """The measurements of one block."""

    order: int  # of execution
    name: str  # of its module
    declared: bool
    layout: str  # such as [N, C, H, W]
    channels: int
    positions: int  # over all images
    changes_shortcut: bool
    output: ChannelStatistics
    branch_var: Tensor | None
    branch_factor: float
    extra: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Branch:
    """The residual branch of one block."""

    order: int
    var: Tensor  # before scalars
    factor: float  # the product of the scalars
    addition: ResidualAddition | None = None  # None in a declared block


@dataclass
class _Call:
    """A call of a module in progress."""

    module: nn.Module
    layers: int  # number of layers called before it
    input_layers: set[int]  # the last layers that its inputs have passed
    branches: list[_Branch] = field(default_factory=list)  # added in it, but not in modules that it calls
    last: _Branch | None = None  # added in it or in modules that it calls

    def changes_shortcut(self, branch: _Branch | None) -> bool:
        """Whether the shortcut of `branch` has a layer of its own: it is neither an input nor an earlier sum."""
        if branch is None or branch.addition is None:
            return False
        sums = {
            other.addition.lineage.layer for other in self.branches if other.addition and other.order < branch.order
        }
        return branch.addition.shortcut.layer not in self.input_layers | sums


class _Recorder:
    """Follows the calls of a model's modules and records its residual blocks; only the `chosen` ones, if given."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        chosen: set[nn.Module] | None,
        extra: Mapping[str, Callable[[Tensor], Tensor]],
    ) -> None:
        self.records: list[_Record] = []
        self.additions = ResidualAdditions(x, self._found, measure_sums=chosen is None)
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._chosen = chosen
        self._extra = extra
        self._calls: list[_Call] = []
        self._order = itertools.count(1)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the model's modules and replace the forward of declared blocks for the duration of the context."""
        with ExitStack() as stack:
            self.additions.strangers.set_apart((*self._model.parameters(), *self._model.buffers()))
            within = {part for module in self._names if isinstance(module, DeclaredBlock) for part in module.modules()}
            for module in self._names:
                if _is_scripted(module):
                    continue  # it takes no hooks
                if isinstance(module, DeclaredBlock):
                    notes = partial(self._declared_branch, module), partial(self._declared_output, module)
                    stack.enter_context(watched(module, *notes))
                elif module in within and module not in (self._chosen or ()):
                    continue
                entering = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                stack.callback(entering.remove)
                leaving = module.register_forward_hook(self._leave, with_kwargs=True)
                stack.callback(leaving.remove)
            stack.enter_context(self.additions)
            # The recorder is part of a reference cycle: it would keep the network until the next garbage collection.
            stack.callback(self._names.clear)
            yield

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.additions.take_up((*args, *kwargs.values()))
        lineages = [self.additions.lineage(item) for item in (*args, *kwargs.values()) if isinstance(item, Tensor)]
        layers = {lineage.layer for lineage in lineages if lineage is not None}
        self._calls.append(_Call(module, self.additions.layers, layers))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._calls.pop()
        while call.module is not module:  # a call that ended in an exception, which the model caught
            call = self._calls.pop()
        outputs = _flat(output)
        if self.additions.layers > call.layers and not any(map(_is_scripted, module.modules())):
            self.additions.look_for_unseen(outputs, self._names[module] or type(module).__name__)
        has_weights = any(parameter.ndim > 1 for parameter in module.parameters())
        self.additions.take_over(outputs, (*args, *kwargs.values()), layer=has_weights)
        caller = self._calls[-1] if self._calls else None
        if caller is not None:
            caller.last = call.last or caller.last
        if self._chosen is not None:
            if module in self._chosen:
                self._record_module(call, outputs[0], self._of_stream(call.last), next(self._order))
        elif caller is not None and self.additions.layers == call.layers:
            # A module that only adds: its additions belong to its caller.
            caller.branches += call.branches
        elif call.branches:
            self._record_branches(call, outputs)

    def _of_stream(self, branch: _Branch | None) -> _Branch | None:
        """The `branch`, or None if its addition is one of attention weights."""
        addition = None if branch is None else branch.addition
        return None if addition and addition.number in self.additions.of_attention else branch

    def _found(self, addition: ResidualAddition) -> None:
        self._add_branch(_Branch(next(self._order), addition.branch_var, addition.factor, addition))

    def _add_branch(self, branch: _Branch) -> None:
        call = self._calls[-1]
        call.last = branch
        if branch.addition is not None:
            call.branches.append(branch)

    def _declared_branch(self, module: nn.Module, residual: Tensor, factor: float) -> None:
        if module is self._declared():
            var = self._statistics(module, residual, 1).avg_var
            self._add_branch(_Branch(next(self._order), var, factor))

    def _declared_output(self, module: nn.Module, output: Tensor) -> None:
        if module is self._declared() and self._chosen is None:
            branch = self._calls[-1].last
            assert branch is not None
            self._record_module(self._calls[-1], output, branch, branch.order)

    def _declared(self) -> nn.Module | None:
        """The declared block in progress, if any; the outermost one if there are several."""
        return next((call.module for call in self._calls if isinstance(call.module, DeclaredBlock)), None)

    def _record_branches(self, call: _Call, outputs: Sequence[Any]) -> None:
        """Record the module as a block if it returns the sum of its only branch, or else each sum as a block."""
        pairs = [(branch, branch.addition) for branch in call.branches if branch.addition is not None]
        pairs = [
            (branch, addition)
            for number, (branch, addition) in enumerate(pairs)
            if addition.number not in self.additions.of_attention
            and not any(addition.is_within_branch_of(later) for _, later in pairs[number + 1 :])
        ]
        for branch, addition in pairs:
            output = next((item for item in outputs if self._is_behind(item, addition)), None)
            if len(pairs) == 1 and output is not None:
                self._record_module(call, output, branch, branch.order)
            else:
                self._record(call, addition.total, addition.shape, addition.lineage.channel_dim, branch, branch.order)

    def _is_behind(self, output: Any, addition: ResidualAddition) -> bool:
        """Whether `output` is the sum, or derived from it without a weighted layer or a change of shape."""
        if not isinstance(output, Tensor) or output.shape != addition.shape:
            return False
        lineage = self.additions.lineage(output)
        return lineage is not None and lineage.weighted == addition.lineage.weighted

    def _record_module(self, call: _Call, output: Any, branch: _Branch | None, order: int) -> None:
        lineage = self.additions.lineage(output) if isinstance(output, Tensor) else None
        channel_dim = 1 if lineage is None else lineage.channel_dim
        addition = None if branch is None else branch.addition
        if addition is not None and addition.total is not None and lineage is addition.lineage:
            statistics = addition.total  # the output is the sum, which has been measured
        else:
            statistics = self._statistics(call.module, output, channel_dim)
        with torch._C.DisableTorchFunction():
            extra = {name: function(output.movedim(channel_dim, 1)) for name, function in self._extra.items()}
        self._record(call, statistics, output.shape, channel_dim, branch, order, extra)

    def _statistics(self, module: nn.Module, activation: Any, channel_dim: int) -> ChannelStatistics:
        if not isinstance(activation, Tensor) or activation.ndim not in RANKS:
            found = list(activation.shape) if isinstance(activation, Tensor) else f"a {type(activation).__name__}"
            where = self._names[module] or type(module).__name__
            raise InputError(
                f"activations of a block must be [N, C, H, W] or [N, T, C], got {found} in {where}: choose other blocks"
            )
        with torch._C.DisableTorchFunction():
            return channel_statistics(activation, channel_dim)

    def _record(
        self,
        call: _Call,
        statistics: ChannelStatistics | None,
        shape: torch.Size,
        channel_dim: int,
        branch: _Branch | None,
        order: int,
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        assert statistics is not None
        self.records.append(
            _Record(
                order,
                self._names[call.module],
                declared=branch is not None and branch.addition is None,
                layout=layout_of(len(shape), channel_dim),
                channels=shape[channel_dim],
                positions=math.prod(shape) // shape[channel_dim],
                changes_shortcut=call.changes_shortcut(branch),
                output=statistics,
                branch_var=None if branch is None else branch.var * _gain_of_gates(call.module) ** 2,
                branch_factor=1.0 if branch is None else branch.factor,
                extra=extra or {},
            )
        )


def _flat(output: Any) -> tuple[Any, ...]:
    """The outputs of a module as a tuple, even if it returns a mapping, as in the transformers library."""
    if isinstance(output, Mapping):
        return tuple(output.values()) or (None,)
    return tuple(output) or (None,) if isinstance(output, list | tuple) else (output,)


def _gain_of_gates(module: nn.Module) -> float:
    """The scalar that makes up for squeeze-excite gates at the end of a branch (timm's NFNets), part of the branch."""
    return float(getattr(module, "attn_gain", 1.0)) if getattr(module, "attn_last", None) is not None else 1.0


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _table(records: list[_Record], extra: list[str]) -> "pd.DataFrame":
    """One row per record. Raises `ValueError` at the first statistic that is not finite."""
    import pandas as pd

    rows = []
    for number, (record, (stage, transition)) in enumerate(zip(records, _places(records), strict=True), 1):
        statistics = {"avg_sq_mean": record.output.avg_sq_mean, "avg_var": record.output.avg_var}
        values = {name: float(value) for name, value in statistics.items()}
        if record.branch_var is not None:
            values["res_var"] = float(record.branch_var)
        for name, value in values.items():
            if not math.isfinite(value):
                where = f"block {number} ({record.name or 'the model itself'})"
                raise InputError(f"{name} of {where} is {value}: the signal explodes, or was not finite to begin with")
        further = [float(record.extra.get(name, math.nan)) for name in extra]
        res_var = values.get("res_var", math.nan)
        rows.append((number, stage, transition, values["avg_sq_mean"], values["avg_var"], res_var, *further))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *extra])
    table.attrs["modules"] = [record.name for record in records]
    table.attrs["layouts"] = [record.layout for record in records]
    table.attrs["silent"] = [record.name for record in records if _is_silent(record)]
    return table


def _is_silent(record: _Record) -> bool:
    """Whether the branch adds next to nothing to the output."""
    if record.branch_var is None:
        return False
    return float(record.branch_var) * record.branch_factor**2 < _SILENT * float(record.output.avg_var)


def _places(records: list[_Record]) -> Iterator[tuple[int, bool]]:
    """The stage of each record, from 1, and whether it is a transition block."""
    matches = [_STAGED.fullmatch(record.name) if record.declared else None for record in records]
    if all(matches):
        for match in matches:
            assert match is not None
            yield int(match[1]) + 1, match[2] == "0"
        return
    stage, before = 0, None
    for record in records:
        begins = (record.channels, record.positions) != before
        before = record.channels, record.positions
        stage += begins
        yield stage, begins or record.changes_shortcut
