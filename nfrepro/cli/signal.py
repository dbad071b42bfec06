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
        list[str],
        typer.Argument(
            metavar="ACTIVATION", help="relu, silu, …, package.module:callable, or 'lambda x: torch.tanh(x) * x'."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Compute the gain gamma of activations by quadrature. Compares it with the published value."""
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
        typer.Argument(metavar="MODEL", help="nf_resnet50, torchvision:resnet50, timm:NAME, package.module:callable."),
    ],
    pixels: Annotated[int, typer.Option(min=1, max=4096, help="Height and width of the images.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 4,
    images: Annotated[str, typer.Option("--input", help="gaussian (N(0, 1) noise) or images:DIR.")] = "gaussian",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Initialisations (and batches) to measure.")] = 3,
    overrides: ModelSets = None,
    blocks: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Names of the modules to measure as blocks. Default: found automatically."),
    ] = None,
    unit_gains: Annotated[
        bool, typer.Option("--unit-gains", help="Set gains that start near zero (SkipInit, LayerScale) to 1.")
    ] = False,
    logarithmic: Annotated[bool, typer.Option("--log", help="Use logarithmic vertical axes.")] = False,
    out: Annotated[
        Path, typer.Option(help="Files to write, without the suffix: .csv, .png and .svg are added.")
    ] = Path("spp"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Draw a signal propagation plot of one or more networks.

    Measures the signal after every residual block, at initialisation.
    """
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
