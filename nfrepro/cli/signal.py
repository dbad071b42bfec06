"""Verbs about signal propagation: gain, spp."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nfrepro.cli.arguments import Json, ModelSets, model_options
from nfrepro.cli.output import print_json


def gain(
    functions: Annotated[
        list[str], typer.Argument(help="relu, silu, …, package.module:callable, or 'lambda x: torch.tanh(x) * x'.")
    ],
    as_json: Json = False,
) -> None:
    """Computes the constant gamma of activations by quadrature, and compares it with the published one."""
    from nfrepro.cli.gains import Gain, gain_of
    from nfrepro.models.lookup import find_activation

    gains = [gain_of(find_activation(text)) for text in functions]
    if as_json:
        print_json([asdict(found) for found in gains])
    else:
        print("\n".join(Gain.lines(gains)))
    if any(found.problem for found in gains):
        raise typer.Exit(1)


def spp(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL…", help="nf_resnet50, torchvision:resnet50, timm:NAME, package.module:callable."),
    ],
    pixels: Annotated[int, typer.Option(min=1, max=4096, help="Side of an image.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 4,
    images: Annotated[str, typer.Option("--input", help="gaussian (N(0, 1) noise), or images:DIR.")] = "gaussian",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Initialisations (and batches) measured.")] = 3,
    overrides: ModelSets = None,
    blocks: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Names of the residual blocks' modules, if not found.")
    ] = None,
    unit_gains: Annotated[
        bool, typer.Option("--unit-gains", help="Set gains that start near zero (SkipInit, LayerScale) to 1.")
    ] = False,
    logarithmic: Annotated[bool, typer.Option("--log", help="Logarithmic vertical axes.")] = False,
    out: Annotated[Path, typer.Option(help="Files to write, without ending: .csv, .png and .svg.")] = Path("spp"),
    force: Annotated[bool, typer.Option("--force", help="Replace them if they are there.")] = False,
) -> None:
    """Signal propagation plot of one network or several: the signal after every block, at initialisation."""
    options = model_options(overrides)
    from nfrepro.cli import propagation_plot as plots
    from nfrepro.cli.progress import Counter
    from nfrepro.models.lookup import find_network

    plots.check_output(out, force)
    networks = [find_network(text, options) for text in models]
    source = plots.parse_input(images, pixels, batch)
    with Counter(len(networks) * seeds, "networks") as counter:
        measured = plots.measure(networks, source, seeds, blocks, counter.advance, unit_gains)
    for path in plots.write(measured.curves, source, out, logarithmic):
        print(path)
    for line in measured.remarks:
        print(line, file=sys.stderr)
