"""The verb bench."""

from typing import Annotated

import typer

from nfrepro.errors import InputError


def bench(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="What to measure: specs, launch, calibration; models, models_compiled, propagation (need timm).",
        ),
    ] = "specs",
    quick: Annotated[
        bool, typer.Option("--quick", help="launch, calibration: run a short trial, whose numbers mean nothing.")
    ] = False,
) -> None:
    """Measure speed on this machine, or how often verdicts are wrong.

    Speed is reported as medians and ratios of repeated measurements.
    """
    from nfrepro.bench import subjects as benchmarks

    if subject not in benchmarks.SUBJECTS:
        raise InputError(f"bench {subject}: unknown; there is: {', '.join(benchmarks.SUBJECTS)}")
    if quick and subject not in benchmarks.QUICK:
        raise InputError(f"bench {subject}: has no --quick; those that have it are {', '.join(benchmarks.QUICK)}")
    for line in (benchmarks.QUICK if quick else benchmarks.SUBJECTS)[subject]():
        print(line, flush=True)
