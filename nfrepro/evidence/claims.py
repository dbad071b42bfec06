"""Claims as data: what the paper says, and the tests that decide it, read from experiments/claims.yaml.

baseline:                            # which runs a test means by default, experiment by experiment
  spp_variants: {model.alpha: 0.2}   # holds for runs that have the option, unless the test says otherwise
claims:
  C10:
    statement: NF-ResNets with Scaled WS propagate signals as ReLU-BN-Conv networks do.
    source: section 4.2, figure 2    # where it is said
    stated_by: paper                 # who says it
    paper: null                      # the paper's number, as text
    tests:
      - experiment: figure_2
        where: {model.name: nf_resnet}                 # the runs; a list of values means any of them
        against: {model.name: bn_resnet}               # runs to compare with, seed by seed; paired quantities only
        across: largest                                # of several runs a seed; without it there may be one
        quantity: {name: curve_distance, statistic: avg_var}      # see claim_quantities.py
        rule: {high: 0.1}                              # bounds are included
        note: what a reader has to know
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from nfrepro.errors import InputError, did_you_mean
from nfrepro.evidence.claim_quantities import Extreme, Quantity
from nfrepro.evidence.verdicts import Bounds
from nfrepro.options import Options, TaskOptions
from nfrepro.specs import find_experiments, load_experiment
from nfrepro.specs.documents import key_path, leaves
from nfrepro.specs.origins import KeyPath, Origin, described, display_path, dotted, problem
from nfrepro.specs.reader import Node, plain, read_file
from nfrepro.specs.validation import config_keys, explain, has_key, unknown_key

FILE = "claims.yaml"

Where = Mapping[str, tuple[Any, ...]]  # column of runs.csv -> the values that are meant
Schemas = Mapping[str, type[TaskOptions]]
Form = TypeVar("Form", bound=Options)

_SECTIONS = ("baseline", "claims")
_SELECTIONS = ("where", "against")


class Rule(Options):
    """What the quantity may be; bounds are included."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _has_bounds_in_order(self) -> "Rule":
        if self.low is None and self.high is None:
            raise ValueError("needs low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def bounds(self) -> Bounds:
        return Bounds(**self.model_dump(exclude_none=True))

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"= {self.low:g}" if self.low == self.high else f"in [{self.low:g}, {self.high:g}]"
        return f">= {self.low:g}" if self.low is not None else f"<= {self.high:g}"


class ClaimTestForm(Options):
    """A test without its selections of runs."""

    experiment: str
    quantity: Quantity
    rule: Rule
    across: Extreme | None = None
    note: str | None = None


class ClaimForm(Options):
    """A claim without its tests."""

    statement: Annotated[str, Field(min_length=1)]
    source: str
    stated_by: str
    paper: str | None  # the paper's number or numbers
    note: str | None = None


@dataclass(frozen=True)
class ClaimTest:
    """One question to the runs of one experiment."""

    form: ClaimTestForm
    where: Where
    against: Where | None
    baseline: Where
    origin: Origin


@dataclass(frozen=True)
class Claim:
    """A statement, and the tests that all have to hold for it."""

    id: str
    form: ClaimForm
    tests: tuple[ClaimTest, ...]


@dataclass(frozen=True)
class _Experiments:
    """The experiments that tests may name, and the keys of their configs."""

    folder: Path
    schemas: Schemas
    names: tuple[str, ...]

    def keys(self, name: str, origin: Origin, where: str) -> frozenset[str]:
        if name not in self.names:
            raise problem(origin, f"{where}: no experiment {name}{_hint(name, self.names)}")
        return config_keys(self.schemas[load_experiment(name, self.folder).task])


def load_claims(folder: Path, schemas: Schemas) -> list[Claim]:
    """The claims of `folder`/claims.yaml, whose tests are about the experiments of `folder`.

    Raises `InputError`, with file and line, for whatever is wrong with the file.
    """
    path = folder / FILE
    node = read_file(path)
    sections = _mapping(node, "", _SECTIONS)
    if "claims" not in sections:
        raise problem(display_path(path), "missing required key claims")
    experiments = _Experiments(folder, schemas, tuple(found.stem for found in find_experiments(folder)))
    baselines = dict(_baselines(sections.get("baseline"), experiments))
    claims = _mapping(sections["claims"], "claims")
    return [_claim(name, claim, baselines, experiments) for name, claim in claims.items()]


def select_claims(claims: Sequence[Claim], ids: Sequence[str]) -> list[Claim]:
    """Those of the given ids, in the order of the file; all where none is given. Raises `InputError` for others."""
    known = [claim.id for claim in claims]
    for name in ids:
        if name not in known:
            raise InputError(f"claim {name}: unknown{_hint(name, known)}")
    return [claim for claim in claims if not ids or claim.id in ids]


def check_scale(claims: Sequence[Claim], folder: Path, scale: str) -> None:
    """Raises `InputError` for a scale that none of the claims' experiments has."""
    names = dict.fromkeys(test.form.experiment for claim in claims for test in claim.tests)
    known = list(dict.fromkeys(found for name in names for found in load_experiment(name, folder).scales))
    if scale not in known:
        raise InputError(f"--scale {scale}: unknown{_hint(scale, known)}")


def _baselines(node: Node | None, experiments: _Experiments) -> Iterator[tuple[str, Where]]:
    for name, values in (_mapping(node, "baseline") if node else {}).items():
        where = f"baseline.{name}"
        yield name, _where(values, where, experiments.keys(name, values.origin, where))


def _claim(name: str, node: Node, baselines: Mapping[str, Where], experiments: _Experiments) -> Claim:
    where = f"claims.{name}"
    fields = dict(_mapping(node, where))
    tests = fields.pop("tests", None)
    form = _validated(ClaimForm, fields, node.origin, ("tests",))
    if tests is None or not isinstance(tests.value, list) or not tests.value:
        raise problem(tests.origin if tests else node.origin, f"{where}.tests: a claim needs a list of tests")
    return Claim(name, form, tuple(_test(item, f"{where}.tests", baselines, experiments) for item in tests.value))


def _test(node: Node, where: str, baselines: Mapping[str, Where], experiments: _Experiments) -> ClaimTest:
    fields = dict(_mapping(node, where))
    selections = {name: fields.pop(name) for name in _SELECTIONS if name in fields}
    form = _validated(ClaimTestForm, fields, node.origin, _SELECTIONS)
    keys = experiments.keys(form.experiment, fields["experiment"].origin, "experiment")
    chosen = {name: _where(selection, name, keys) for name, selection in selections.items()}
    if form.quantity.paired != ("against" in chosen):
        needs = "compares runs and needs" if form.quantity.paired else "compares no runs and takes no"
        raise problem(fields["quantity"].origin, f"quantity: {form.quantity.name} {needs} against")
    baseline = baselines.get(form.experiment, {})
    return ClaimTest(form, chosen.get("where", {}), chosen.get("against"), baseline, node.origin)


def _where(node: Node, where: str, keys: frozenset[str]) -> Where:
    """Each key with the values it may have: a single one counts as a list of one."""
    _mapping(node, where)
    chosen = {}
    for path, leaf in leaves(node):
        if isinstance(leaf.value, dict):
            continue
        if not has_key(keys, path):
            raise problem(leaf.origin, f"{where}.{unknown_key(path, keys)}")
        values = leaf.value if isinstance(leaf.value, list) else [leaf]
        if not values:
            raise problem(leaf.origin, f"{where}.{dotted(path)}: an empty list means no run")
        chosen[dotted(path)] = tuple(plain(value) for value in values)
    return chosen


def _validated(form: type[Form], fields: Mapping[str, Node], origin: Origin, others: tuple[str, ...]) -> Form:
    """The fields as `form` has them, beside the keys `others`; InputError with the line of the first it refuses."""
    config = {key: plain(node) for key, node in fields.items()}
    origins: dict[KeyPath, Origin] = {(): origin}
    for key, node in fields.items():
        origins |= {path: leaf.origin for path, leaf in leaves(node, key_path(key, node.origin))}
    try:
        return form.model_validate(config)
    except ValidationError as error:
        raise explain(error, config, origins, config_keys(form).union(others)) from None


def _mapping(node: Node, where: str, known: tuple[str, ...] | None = None) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        prefix = f"{where}: " if where else ""
        raise problem(node.origin, f"{prefix}expected a mapping, found {described(plain(node))}")
    for key, child in node.value.items():
        if known is not None and key not in known:
            raise problem(child.origin, f"{key}: unknown key{_hint(key, known)}")
    return node.value


def _hint(word: str, known: Sequence[str]) -> str:
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"
