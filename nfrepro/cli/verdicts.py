"""Verbs about verdicts on the claims: claims, report."""

from typing import Annotated

import typer

from nfrepro.cli.arguments import EXPERIMENTS, RESULTS, Experiments, Json, Results
from nfrepro.cli.output import print_json, print_lines
from nfrepro.tasks.registry import SCHEMAS


def claims(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Claims to show in detail, say C01. Default: all, in short."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="The verdicts of this scale alone. Default: each claim at the best it has.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also writes the verdicts at all scales with results to claims.json.")
    ] = False,
) -> None:
    """Verdicts on the paper's claims, from stored results. Runs nothing."""
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
    """Writes claims.json, REPORT.md and report.html from stored results, at all scales that have any. Draws nothing."""
    from nfrepro.report.reading import read_report
    from nfrepro.report.writing import write_report

    found = read_report(experiments, results, SCHEMAS)
    print_lines(map(str, write_report(found, results)))
    if unexplained := found.unexplained():
        print(f"without a likely reason in {experiments / 'claims.yaml'}: {', '.join(unexplained)}")
