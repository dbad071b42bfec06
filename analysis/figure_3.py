"""Figure 3 of the paper: top-1 of NF-RegNets, BN-RegNets and EfficientNets against multiply-adds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from nfrepro.errors import InputError
from nfrepro.models.options import FAMILIES
from nfrepro.models.registry import build
from nfrepro.options import Options
from nfrepro.plots.comparison import Comparison, Factor, named, read_arms, setting
from nfrepro.plots.comparison_figure import draw_comparison
from nfrepro.plots.comparison_table import table_note, table_rows
from nfrepro.plots.factors import METHOD
from nfrepro.plots.paper_values import EFFICIENTNETS, NF_REGNETS, Level, PaperValue, Reference
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure

EXPERIMENT = "figure_3"
MIXED = "MixUp + CutMix"
# Data set -> channels, pixels, classes of its images; other data sets have pixels and classes in their options.
IMAGES = {"fashion_mnist": (1, 28, 10), "cifar10": (3, 32, 10)}
FIGURE_3: dict[tuple[Level, ...], PaperValue] = {
    **{(MIXED, 1e9 * cost, "NF"): PaperValue(top1, "read off") for cost, top1 in NF_REGNETS.values()},
    **{(MIXED, 1e9 * cost, "EfficientNet"): PaperValue(top1, trust) for cost, top1, trust in EFFICIENTNETS.values()},
}
TABLE = Comparison(
    title="RegNets and EfficientNets",
    panel=named("mixing", "data.mixing", {"none": "no mixing", "mixup_cutmix": MIXED}),
    axis=replace(
        named("variant", "model.variant", {name: name for name in NF_REGNETS}),
        also=("data.pixels", "data.test_pixels", "train.weight_decay"),  # larger with the network (the authors' recipe)
    ),
    line=METHOD,
    references=(
        Reference(
            heading="paper's figure 3 (ImageNet)",
            source="digitised, error 0.05",
            values={(MIXED, name, "NF"): PaperValue(top1, "read off") for name, (_, top1) in NF_REGNETS.items()},
        ),
        Reference(
            heading="EfficientNets of figure 3 (ImageNet, AA/RA)",
            source="trained by others with AutoAugment or RandAugment, not with MixUp and CutMix; printed in arXiv "
            "2102.06171, B1 and B2 read off",
            values={
                (MIXED, name, "EfficientNet"): PaperValue(top1, trust)
                for name, (_, top1, trust) in EFFICIENTNETS.items()
            },
        ),
    ),
    remark="Multiply-adds are of one test image.",
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table by variant, and the figure by multiply-adds, with the paper's points in a separate panel."""
    arms = read_arms(TABLE, analysis.table, str(analysis.table_path))
    costs = {str(row["id"]): multiply_adds(row, analysis.table_path) for _, row in analysis.table.iterrows()}
    rows = [
        {**row, "multiply-adds (1e9)": f"{costs[arm.ids[0]] / 1e9:.4g}"}
        for row, arm in zip(table_rows(TABLE, arms), arms, strict=True)
    ]
    about = setting(TABLE, analysis.table, analysis.scale)
    table = write_markdown(analysis.output, TABLE.title, rows, table_note(TABLE, arms, about))
    print(table.read_text())
    figure = by_cost(costs)
    drawn = read_arms(figure, analysis.table, str(analysis.table_path))
    return [table, *save_figure(draw_comparison(figure, drawn, about), analysis.output)]


def by_cost(costs: dict[str, int]) -> Comparison:
    """The same arms, placed by their cost; `costs` has that of each run by id."""
    axis = Factor(
        "multiply-adds",
        ("id",),
        lambda row: float(costs[str(row["id"])]),
        scale="logarithmic",
        also=("model.variant", *TABLE.axis.also),
        measured=True,
    )
    paper = Reference("figure 3", "", FIGURE_3, panel="the paper's figure 3, ImageNet\n(EfficientNets: AA/RA)")
    return replace(TABLE, title="Top-1 against multiply-adds, B0 upwards", axis=axis, references=(paper,))


def multiply_adds(row: pd.Series, table: Path) -> int:
    """The multiply-adds for one test image, for the run of a row of runs.csv."""
    given = {name.removeprefix("model."): row[name] for name in row.index if name.startswith("model.")}
    known = {key: value for key, value in given.items() if not pd.isna(value)}
    # Not strict: a column with blanks has whole numbers as 8.0.
    options = FAMILIES[known["name"]].model_validate(known, strict=False)
    return count_multiply_adds(options, *(IMAGES.get(row["data.name"]) or _image(row, table)))


@cache
def count_multiply_adds(options: Options, channels: int, pixels: int, classes: int) -> int:
    """The multiply-adds that torch would execute, counted without computing anything."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(options, classes, channels).eval()(torch.empty(1, channels, pixels, pixels))
    return int(counter.get_total_flops() // 2)


def _image(row: pd.Series, table: Path) -> tuple[int, int, int]:
    pixels = row.get("data.test_pixels")
    pixels = row.get("data.pixels") if pd.isna(pixels) else pixels
    classes = row.get("data.classes")
    if pd.isna(pixels) or pd.isna(classes):
        raise InputError(f"{table}: run {row['id']} has no data.pixels or no data.classes, so no multiply-adds")
    return int(row.get("data.channels", 3)), int(pixels), int(classes)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
