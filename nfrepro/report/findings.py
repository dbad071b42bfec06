"""The findings in sentences, each a fixed text with a number from claims.json."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nfrepro.report.words import number, verdict_text

Content = Mapping[str, Any]  # of claims.json


@dataclass(frozen=True)
class Sentence:
    """A sentence about the number of one test of a claim.

    `text` contains `{number}`, or `{size}` and `{side}`: by how many points one thing is above or below another.
    """

    claim: str
    text: str
    quantity: str  # the beginning of the test's quantity
    where: Mapping[str, Any] = field(default_factory=dict)  # a part of what the test selects
    against: Mapping[str, Any] = field(default_factory=dict)
    percent: bool = False  # the number is a share


SENTENCES = (
    Sentence(
        "C01",
        "At initialisation every residual branch of a BN-ReLU-Conv ResNet of 600 layers has a variance near {number}; "
        "theory says 0.68",
        "median res_var",
    ),
    Sentence(
        "C48",
        "after the 50 blocks of a stage its signal has a variance of {number}; theory says 34.77",
        "median avg_var",
        {"model.order": "bn_relu_conv"},
    ),
    Sentence(
        "C07",
        "with He weights and no normalization, the squared channel mean is at least {number} times the variance",
        "smallest avg_sq_mean / avg_var",
    ),
    Sentence(
        "C10",
        "without normalization, Scaled Weight Standardization keeps the variance within {number} of BatchNorm's",
        "largest |avg_var / other's - 1|",
        percent=True,
    ),
    Sentence(
        "C27",
        "at batch size 4, NF-ResNets are {size} points of top-1 {side} BN-ResNets",
        "top1 - others'",
        {"train.batch_size": 4},
    ),
    Sentence(
        "C35",
        "after five epochs of training, networks with alpha 0.2 are {size} points of top-1 {side} those with alpha 1",
        "top1 - others'",
        {"model.alpha": 0.2},
        {"model.alpha": 1.0},
    ),
    Sentence(
        "C36",
        "networks with a SkipInit scalar that starts at 0 end {size} points {side} those without one",
        "top1 - others'",
        {"model.skipinit_gain": 0.0},
    ),
    Sentence(
        "C37",
        "with a weight decay of 5e-3, networks whose gains, biases and scalars are exempt end {size} points {side} "
        "those in which everything decays",
        "top1 - others'",
        {"train.weight_decay": 0.005},
        {"train.decay_norm_and_bias": True},
    ),
    Sentence(
        "W02",
        "in plain networks with BatchNorm every layer multiplies the correlation of gradients by {number}; the source "
        "says 0.5",
        "factor of gradient_correlation",
        {"model.normalization": "batch_norm"},
    ),
)


def findings(content: Content) -> Iterator[tuple[str, str]]:
    """Claim and sentence, with interval, seeds, scale and verdict; none for a claim whose runs are missing.

    Raises `LookupError` if a claim, or the test that a sentence is about, does not exist.
    """
    claims = {claim["id"]: claim for claim in content["claims"]}
    for sentence in SENTENCES:
        claim = claims[sentence.claim]
        test = _test(sentence, claim)
        if test["estimate"] is not None:
            yield sentence.claim, f"{_said(sentence, test)} ({_evidence(sentence, test, claim)})."


def _test(sentence: Sentence, claim: Content) -> Content:
    """The first test of the claim that the sentence is about."""
    wanted = {"where": sentence.where, "against": sentence.against}
    for test in claim["tests"]:
        chosen = [of.items() <= test["selections"].get(name, {}).items() for name, of in wanted.items()]
        if all(chosen) and str(test["quantity"]).startswith(sentence.quantity):
            return dict(test)
    raise LookupError(f"{sentence.claim}: no test of {sentence.quantity} with {dict(sentence.where)}")


def _said(sentence: Sentence, test: Content) -> str:
    estimate = test["estimate"]
    shown = {"number": _shown(sentence, estimate), "size": f"{abs(estimate):.1f}"}
    text = sentence.text.format(**shown, side="above" if estimate > 0 else "below")
    return text[0].upper() + text[1:]


def _evidence(sentence: Sentence, test: Content, claim: Content) -> str:
    low, high = (_shown(sentence, end) for end in test["interval"])
    found = f"95 % interval {low} to {high}, n = {test['n']}, scale {claim['scale']}"
    return f"{found}: {verdict_text(test['verdict'])}"


def _shown(sentence: Sentence, value: float) -> str:
    return f"{100 * value:.1f} %" if sentence.percent else number(value)
