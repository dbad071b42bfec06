"""Very deep networks without regularisation: a map of the runs that collapse, by learning rate and seed (claim C26)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nfrepro.claims.number_quantities import CHANCE_LEVELS
from nfrepro.plots.comparison import Comparison, Factor, read_arms, setting
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.stability import draw_stability, peak_rate, read_outcomes, stability_rows
from nfrepro.plots.style import save_figure

EXPERIMENT = "deep_stability"
# Peak learning rate -> how many of how many runs of NF-ResNet-288 collapsed; section 5, second hand.
PAPER = {0.2: (0, 5), 0.4: (2, 5)}
RATES = Comparison(
    title="Very deep NF-ResNets without regularisation",
    axis=Factor("peak learning rate", ("train.lr_per_256",), peak_rate, scale="logarithmic"),
)
WITHOUT = replace(RATES, title="Very deep ResNets with nothing in place of BatchNorm")
COLLAPSED = f"Collapsed: diverged (loss not finite), or a final top-1 of at most {CHANCE_LEVELS:g} times guessing's."


def analyse(analysis: Analysis) -> Sequence[Path]:
    """One table and one figure for NF-ResNets, and for another network that stands beside them."""
    written: list[Path] = []
    for name, runs in analysis.table.groupby("model.name", sort=False):
        suffix = "" if name == "nf_resnet" else f"_{str(name).removesuffix('_resnet')}"
        output = analysis.output.with_name(f"{analysis.output.name}{suffix}")
        of, paper = (WITHOUT, {}) if suffix else (RATES, PAPER)
        written += draw(replace(analysis, table=runs, output=output), of, paper)
    return written


def draw(analysis: Analysis, rates: Comparison, paper: Mapping[float, tuple[int, int]]) -> Sequence[Path]:
    """One table, one figure; `paper` is empty for a network that is not the paper's."""
    read_arms(rates, analysis.table, str(analysis.table_path))  # refuses what cannot be compared
    outcomes = read_outcomes(analysis.table)
    about = setting(rates, analysis.table, analysis.scale)
    note = (
        f"Ours: {about}. {COLLAPSED} Its share has a 95 % exact binomial interval (Clopper and Pearson), over n seeds "
        "that completed or diverged; the accuracy of the others a 95 % Student t interval."
    )
    if paper:
        note += '\n\nColumn "paper (ImageNet, 288 layers)": section 5, batch size 1024; second hand.'
    table = write_markdown(analysis.output, rates.title, stability_rows(outcomes, paper), note)
    print(table.read_text())
    figure = draw_stability(outcomes, paper, rates.title, f"{about}. {COLLAPSED}")
    return [table, *save_figure(figure, analysis.output)]


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
