"""claims.json, for programs: the evidence and the numbers of every verdict."""

import json
import math
from numbers import Integral
from typing import Any

from nfrepro.report.reading import Report

SCHEMA_VERSION = 2
# Processors differ in the last bits of a sum, but agree in this number of digits.
DIGITS = 10


def claims_json(report: Report) -> str:
    """The text of claims.json: each claim's verdict in the list, and that of each scale under `by_scale`.

    Claims are in the order of the file. A number that is not finite is null.
    """
    judgement = report.judgement
    by_claim = zip(judgement.best, zip(*judgement.by_scale.values(), strict=True), strict=True)
    found = [
        {**best.report(), "by_scale": {verdict.scale: verdict.report() for verdict in verdicts}}
        for best, verdicts in by_claim
    ]
    said = [{"claim": claim, "text": text} for claim, text in report.found]
    content = {"schema_version": SCHEMA_VERSION, "scales": report.scales, "found": said, "claims": _rounded(found)}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)  # numpy's integers, too
    return value
