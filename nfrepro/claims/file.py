"""Reads experiments/claims.yaml, whose format is explained in `claim.py`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from nfrepro.claims.claim import (
    Claim,
    ClaimForm,
    ClaimTest,
    ClaimTestForm,
    Control,
    ControlForm,
    Explanation,
    Selection,
    Was,
    Where,
    hint,
)
from nfrepro.claims.quantities import Contrast
from nfrepro.options import Options, TaskOptions
from nfrepro.specs import find_experiments, load_experiment
from nfrepro.specs.documents import key_path, leaves
from nfrepro.specs.experiments import Experiment
from nfrepro.specs.origins import KeyPath, Origin, described, display_path, dotted, problem
from nfrepro.specs.reader import Node, plain, read_file
from nfrepro.specs.validation import config_keys, explain, has_key, unknown_key
from nfrepro.stats.power import least_margin

FILE = "claims.yaml"

Schemas = Mapping[str, type[TaskOptions]]
Form = TypeVar("Form", bound=Options)

_SECTIONS = ("scales", "looks", "blocks", "series", "baseline", "controls", "claims")
_SELECTIONS = ("where", "against", "arms")
_BESIDE_THE_FORM = ("tests", "explained", "was", "looks")
# Keys of a test that a control may not have: it is judged once, by itself.
_NOT_OF_CONTROLS = ("requires", "sd", "each")
_ID = re.compile(r"([A-Za-z]+)[0-9]+")


@dataclass(frozen=True)
class _Known:
    """The names that tests may use, and the settings that hold for all of them."""

    experiments: Mapping[str, Experiment]
    schemas: Schemas
    scales: tuple[str, ...] | None
    series: Mapping[str, str]
    looks: Mapping[str, tuple[int, ...]]
    baselines: Mapping[str, Where]
    controls: Mapping[str, Control]

    def experiment(self, name: str, origin: Origin, where: str) -> Experiment:
        if name not in self.experiments:
            raise problem(origin, f"{where}: no experiment {name}{hint(name, list(self.experiments))}")
        return self.experiments[name]

    def keys(self, experiment: Experiment) -> frozenset[str]:
        return config_keys(self.schemas[experiment.task])

    def scale(self, name: str, origin: Origin, where: str) -> str:
        scales = list(dict.fromkeys(scale for found in self.experiments.values() for scale in found.scales))
        if name not in scales:
            raise problem(origin, f"{where}: no experiment has a scale {name}{hint(name, scales)}")
        return name


def load_claims(folder: Path, schemas: Schemas) -> list[Claim]:
    """The claims of `folder`/claims.yaml, whose tests are about the experiments of `folder`.

    Raises `InputError`, with file and line, for anything wrong with the file.
    """
    path = folder / FILE
    sections = _mapping(read_file(path), "", _SECTIONS)
    if "claims" not in sections:
        raise problem(display_path(path), "missing required key claims")
    experiments = {found.stem: load_experiment(found.stem, folder) for found in find_experiments(folder)}
    scales = _scales(sections["scales"]) if "scales" in sections else None
    known = _Known(experiments, schemas, scales, dict(_series(sections.get("series"))), {}, {}, {})
    _blocks(sections.get("blocks"), list(experiments))
    known = replace(known, looks=dict(_looks(sections.get("looks"), "looks", known)))
    known = replace(known, baselines=dict(_baselines(sections.get("baseline"), known)))
    known = replace(known, controls=dict(_controls(sections.get("controls"), known)))
    return [_claim(name, node, known) for name, node in _mapping(sections["claims"], "claims").items()]


def load_blocks(folder: Path) -> dict[str, tuple[str, ...]]:
    """The experiments of each block of scale overnight, in the order in which they are to be run."""
    sections = _mapping(read_file(folder / FILE), "", _SECTIONS)
    return _blocks(sections.get("blocks"), [path.stem for path in find_experiments(folder)])


def _blocks(section: Node | None, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    blocks = {}
    for block, node in (_mapping(section, "blocks") if section else {}).items():
        listed = plain(node)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise problem(node.origin, f"blocks.{block}: expected a list of experiments, found {described(listed)}")
        for name in listed:
            if name not in names:
                raise problem(node.origin, f"blocks.{block}: no experiment {name}{hint(name, names)}")
        blocks[block] = tuple(listed)
    return blocks


def _scales(node: Node) -> tuple[str, ...]:
    if not isinstance(node.value, list) or not all(isinstance(plain(item), str) for item in node.value):
        raise problem(node.origin, f"scales: expected a list of scales, found {described(plain(node))}")
    return tuple(plain(item) for item in node.value)


def _series(node: Node | None) -> Iterator[tuple[str, str]]:
    for letters, title in (_mapping(node, "series") if node else {}).items():
        if not isinstance(title.value, str) or not title.value:
            raise problem(title.origin, f"series.{letters}: expected text, found {described(plain(title))}")
        yield letters, title.value


def _baselines(node: Node | None, known: _Known) -> Iterator[tuple[str, Where]]:
    for name, values in (_mapping(node, "baseline") if node else {}).items():
        where = f"baseline.{name}"
        yield name, _where(values, where, known.keys(known.experiment(name, values.origin, where)))


def _looks(node: Node | None, where: str, known: _Known) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The numbers of seeds of each scale; they rise, since every look adds seeds."""
    for scale, item in (_mapping(node, where) if node else {}).items():
        known.scale(scale, item.origin, where)
        looks = plain(item)
        numbers = isinstance(looks, list) and all(type(n) is int and n >= 2 for n in looks)
        if not numbers or not looks or sorted(set(looks)) != looks:
            expected = "numbers of seeds, 2 or more, in rising order"
            raise problem(item.origin, f"{where}.{scale}: expected {expected}, found {described(looks)}")
        yield scale, tuple(looks)


def _controls(node: Node | None, known: _Known) -> Iterator[tuple[str, Control]]:
    for name, item in (_mapping(node, "controls") if node else {}).items():
        where = f"controls.{name}"
        fields = dict(_mapping(item, where))
        own = {key: fields.pop(key) for key in ControlForm.model_fields if key in fields}
        form = _validated(ControlForm, own, item.origin, tuple(fields))
        for key in _NOT_OF_CONTROLS:
            if key in fields:
                raise problem(fields[key].origin, f"{where}.{key}: a control has none")
        yield name, Control(name, form, _test(Node(fields, item.origin), where, known))


def _claim(name: str, node: Node, known: _Known) -> Claim:
    where = f"claims.{name}"
    letters = _ID.fullmatch(name)
    if letters is None:
        raise problem(node.origin, f"{where}: an id is letters and a number, say C01")
    fields = dict(_mapping(node, where))
    tests, explained, was, looks = (fields.pop(key, None) for key in _BESIDE_THE_FORM)
    form = _validated(ClaimForm, fields, node.origin, _BESIDE_THE_FORM)
    claim = Claim(
        name,
        form,
        tuple(_tests(form, tests, node.origin, where, known)),
        dict(_explained(explained, known)),
        known.series.get(letters[1], letters[1]),
        _was(was, where, known),
        {**known.looks, **dict(_looks(looks, f"{where}.looks", known))},
        known.controls,
    )
    for test in claim.tests:
        _refuse_margin_below_reach(claim, test)
    return claim


def _tests(form: ClaimForm, node: Node | None, claim: Origin, where: str, known: _Known) -> Iterator[ClaimTest]:
    if form.untested is not None or form.fact is not None:
        if node is not None:
            kind = "untested" if form.fact is None else "a fact"
            raise problem(node.origin, f"{where}.tests: a claim that is {kind} has none")
        return
    if node is None or not isinstance(node.value, list) or not node.value:
        origin = node.origin if node else claim
        raise problem(origin, f"{where}.tests: a claim needs a list of tests, or `untested` or `fact` with the reason")
    for item in node.value:
        yield _test(item, f"{where}.tests", known)


def _was(node: Node | None, where: str, known: _Known) -> Was | None:
    if node is None:
        return None
    fields = _mapping(node, f"{where}.was")
    was = _validated(Was, fields, node.origin, ())
    known.scale(was.scale, fields["scale"].origin, f"{where}.was.scale")
    return was


def _refuse_margin_below_reach(claim: Claim, test: ClaimTest) -> None:
    """Raises `InputError` for a margin that the seeds of the last look cannot decide, given their deviation."""
    if test.form.sd is None or test.form.margin is None:
        return
    for scale, looks in claim.looks.items():
        least = least_margin(test.form.sd, looks[-1])
        if test.applies_at(scale) and test.form.margin < least:
            seeds, sd = f"{looks[-1]} seeds at scale {scale}", f"a standard deviation of {test.form.sd:g}"
            text = f"a margin of {test.form.margin:g} cannot be decided with {seeds} and {sd}: {least:.2g} can"
            raise problem(test.origin, f"{claim.id}: rule {test.form.rule}: {text}")


def _explained(node: Node | None, known: _Known) -> Iterator[tuple[str, Explanation]]:
    for scale, item in (_mapping(node, "explained") if node else {}).items():
        known.scale(scale, item.origin, "explained")
        yield scale, _validated(Explanation, _mapping(item, f"explained.{scale}"), item.origin, ())


def _test(node: Node, where: str, known: _Known) -> ClaimTest:
    fields = dict(_mapping(node, where))
    given = {name: fields.pop(name) for name in _SELECTIONS if name in fields}
    form = _validated(ClaimTestForm, fields, node.origin, _SELECTIONS)
    experiment = known.experiment(form.experiment, fields["experiment"].origin, "experiment")
    keys = known.keys(experiment)
    selections = _selections(form, given, fields["quantity"].origin, node.origin, keys)
    for column in form.each:
        if not has_key(keys, tuple(column.split("."))):
            raise problem(fields["each"].origin, f"each: {unknown_key(tuple(column.split('.')), keys)}")
    for scale in form.scales or ():
        if scale not in experiment.scales:
            raise problem(fields["scales"].origin, f"scales: {experiment.name} has no scale {scale}")
    for control in form.requires:
        if control not in known.controls:
            names = list(known.controls)
            raise problem(fields["requires"].origin, f"requires: no control {control}{hint(control, names)}")
    baseline = known.baselines.get(experiment.name, {})
    exact = known.schemas[experiment.task].deterministic
    return ClaimTest(form, selections, baseline, form.scales or known.scales, node.origin, exact)


def _selections(
    form: ClaimTestForm, given: Mapping[str, Node], quantity: Origin, test: Origin, keys: frozenset[str]
) -> dict[str, Selection]:
    """The selections by name; without `where`, all runs are selected."""
    takes, name = form.quantity.selections, form.quantity.name
    if (takes == "arms") != ("arms" in given) or (takes == "arms" and len(given) > 1):
        needs = "adds up arms and needs arms, not where" if takes == "arms" else "takes where, not arms"
        raise problem(quantity, f"quantity: {name} {needs}")
    if takes != "arms":
        if (takes == "two") != ("against" in given):
            needs = "compares runs and needs" if takes == "two" else "compares no runs and takes no"
            raise problem(quantity, f"quantity: {name} {needs} against")
        found = {key: Selection(_where(node, key, keys), node.origin) for key, node in given.items()}
        return {"where": Selection({}, test)} | found
    arms = _mapping(given["arms"], "arms")
    assert isinstance(form.quantity, Contrast)
    if set(arms) != set(form.quantity.weights):
        raise problem(quantity, f"quantity.weights: must name the arms, {', '.join(arms)}")
    return {key: Selection(_where(node, f"arms.{key}", keys), node.origin) for key, node in arms.items()}


def _where(node: Node, where: str, keys: frozenset[str]) -> Where:
    """Each key with the values it may have; a single value counts as a list of one."""
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
    """The fields as a `form`, next to which keys `others` may be given. Raises `InputError` at the first bad one."""
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
            raise problem(child.origin, f"{key}: unknown key{hint(key, known)}")
    return node.value
