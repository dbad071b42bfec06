"""The sections of the paper, and other work, by which the report groups claims."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One group of claims."""

    key: str  # its anchor
    title: str


_ELSEWHERE = Section("elsewhere", "Elsewhere")

_PLACES = r"((section|figure|table|appendix) [\w.]+( \w)?( and | of ))*"
# The source of a claim belongs to the first pattern that it matches.
_PATTERNS = (
    (rf"^{_PLACES}their second paper", Section("second-paper", "Their second paper")),
    (r"1502\.03167", Section("covariate-shift", "Internal covariate shift (arXiv 1502.03167)")),
    (r"1702\.08591", Section("shattered-gradients", "Shattered gradients (arXiv 1702.08591)")),
    (r"1805\.11604", Section("smoothness", "Smoothness of the loss (arXiv 1805.11604)")),
    (r"2002\.10444", Section("skipinit", "Small residual branches (arXiv 2002.10444)")),
    (r"^section 3\b", Section("section-3", "Section 3, figure 1: the signal with BatchNorm")),
    (r"^(section 4\.2|figure 2)\b", Section("section-4-2", "Section 4.2, figure 2: Scaled Weight Standardization")),
    (r"^section 4\.3\b", Section("section-4-3", "Section 4.3: the gains of activations")),
    (r"^section 4\b", Section("section-4", "Section 4: alpha, beta and the ledger of variance")),
    (r"^(section 5|table|figure 3)\b", Section("section-5", "Section 5, tables 1 and 2, figure 3: training")),
    (r"^(appendix|the authors' code)", Section("authors-code", "The appendix and the authors' code")),
    (r"", _ELSEWHERE),
)
# In the order of the paper, then by year.
_ORDER = (
    "section-3",
    "section-4",
    "section-4-2",
    "section-4-3",
    "section-5",
    "authors-code",
    "second-paper",
    "covariate-shift",
    "shattered-gradients",
    "smoothness",
    "skipinit",
    "elsewhere",
)


def section_of(source: str) -> Section:
    """The section that the text of a claim's `source` names."""
    return next(section for pattern, section in _PATTERNS if re.search(pattern, source, flags=re.IGNORECASE))


def place(section: Section) -> int:
    """The position of a section in the report."""
    return _ORDER.index(section.key)
