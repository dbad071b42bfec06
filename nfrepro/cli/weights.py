"""Verbs about files of weights: convert, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfrepro.cli.arguments import Json, Model, ModelSets, model_options
from nfrepro.cli.output import print_json, print_lines

if TYPE_CHECKING:
    from nfrepro.training.evaluation import Evaluation
    from nfrepro.training.file_evaluation import Subject


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Weights: .npz (the authors' tree), .safetensors, .pt or .pth.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .safetensors or .pt.")],
    model: Model = None,
    overrides: ModelSets = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
) -> None:
    """Convert weights to a file that describes its network.

    Reads weights under the authors' names, timm's or ours, and writes them under ours.
    """
    options = model_options(overrides)
    from nfrepro.models import weights

    weights.check_output(out, force)
    network, description = weights.build_network(weights.read_weights(source), model, options)
    weights.write_weights(out, network, description, force)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    classes, naming = description.num_classes, description.source_naming
    print(f"{out}: {description.model}, {classes:,} classes, {parameters:,} parameters, from {naming} names")


def evaluate(
    weights: Annotated[Path, typer.Option(metavar="FILE", help="Weights, in any format that convert reads.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Images: DIR/<class>/*.jpg, DIR/val/… or DIR/test/….")],
    model: Model = None,
    overrides: ModelSets = None,
    pixels: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Height and width of the images. Default: the network's.")
    ] = None,
    crop: Annotated[
        float, typer.Option(help="Central crop: padding in pixels (the authors'), or a fraction up to 1 (timm's).")
    ] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:NUMBER, or auto (a GPU if there is one).")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16.")] = "float32",
    as_json: Json = False,
) -> None:
    """Evaluate weights on labelled images: top-1, top-5, loss."""
    options = model_options(overrides)
    from nfrepro.cli.progress import Counter
    from nfrepro.cli.screen import table_lines
    from nfrepro.training import file_evaluation as files

    crops, place = files.chosen_crop(crop), files.chosen_device(device)
    protocol = files.Protocol(crops, pixels, batch, place, files.chosen_precision(precision))
    subject = files.prepare(weights, data, model, options, protocol)
    with Counter(len(subject.images), "images") as counter:
        result = files.evaluate_subject(subject, counter.advance)
    report = _accuracy_report(subject, result)
    if as_json:
        print_json(report)
        return
    print_lines(table_lines((name, _in_words(value)) for name, value in report.items() if name != "options"))


def _accuracy_report(subject: "Subject", result: "Evaluation") -> dict[str, Any]:
    """The settings and results of an evaluation; accuracies are in percent, with their intervals."""
    from nfrepro.stats.proportions import wilson_interval

    top1, top5 = (
        wilson_interval(round(share * result.images / 100), result.images) for share in (result.top1, result.top5)
    )
    return {
        "model": subject.description.model,
        "options": subject.description.options,
        "weights_sha256": subject.weights_sha256,
        "images": result.images,
        "classes": len(subject.images.classes),
        "pixels": subject.pixels,
        "crop": str(subject.protocol.crop),
        "precision": subject.protocol.precision,
        "device": str(subject.protocol.device),
        "top1": {"percent": top1.mean, "low": top1.low, "high": top1.high},
        "top5": {"percent": top5.mean, "low": top5.low, "high": top5.high},
        "interval": top1.method,
        "loss": result.loss,
    }


def _in_words(value: Any) -> str:
    """The value as text: `76.71 %  [76.34, 77.08]` for an accuracy."""
    if isinstance(value, dict):
        return f"{value['percent']:.2f} %  [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
