"""Verbs about verdicts on the claims: claims, report."""

from typing import Annotated

import typer

from nfrepro.cli.arguments import EXPERIMENTS, RESULTS, Experiments, Json, Results
from nfrepro.cli.output import print_json, print_lines
from nfrepro.tasks.registry import SCHEMAS


def claims(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Claims to show in detail, e.g. C01. Default: an overview of all."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Show only verdicts at this scale. Default: each claim at its best scale.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also write the verdicts at all scales with results to claims.json.")
    ] = False,
) -> None:
    """Show the verdicts on the claims, from stored results. Runs nothing."""
    from nfrepro.claims import lines as claim_lines
    from nfrepro.claims.claim import select_claims
    from nfrepro.claims.file import load_claims
    from nfrepro.claims.judge import verdicts_at
    from nfrepro.report.reading import read_report
    from nfrepro.report.writing import write_claims

    stated = load_claims(experiments, SCHEMAS)
    wanted = select_claims(stated, ids or [])
    verdicts = [found for found in verdicts_at(scale, stated, experiments, results, SCHEMAS) if found.claim in wanted]
    if write:
        write_claims(read_report(experiments, results, SCHEMAS), results)
    if as_json:
        print_json([found.report() for found in verdicts])
        return
    for found in verdicts:
        print("\n".join(claim_lines.details(found) if ids else claim_lines.overview(found)))
    print(claim_lines.tally(verdicts, "the best scale of each" if scale is None else f"scale {scale}"))


def report(experiments: Experiments = EXPERIMENTS, results: Results = RESULTS) -> None:
    """Write the report on all scales that have stored results.

    Writes claims.json, REPORT.md, report.html and verdicts.svg. Does not redraw the figures of experiments.
    """
    from nfrepro.report.reading import read_report
    from nfrepro.report.writing import write_report

    found = read_report(experiments, results, SCHEMAS)
    print_lines(map(str, write_report(found, results)))
    if unexplained := found.unexplained():
        print(f"without a likely reason in {experiments / 'claims.yaml'}: {', '.join(unexplained)}")
