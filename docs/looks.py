"""Draws docs/looks.png: the p-value that each look requires, and the courses of two claims."""

from pathlib import Path

from nfrepro.plots.style import COLUMN, PALETTE, new_figure, save_figure
from nfrepro.stats.sequential import nominal_levels

LOOKS = (4, 6, 8)
RATE = 0.025
# One-sided p-values of a fictitious claim that crosses at the second look, and of one that never does.
CROSSES, NEVER = (0.012, 0.0006, 0.0001), (0.21, 0.08, 0.055)


def main() -> None:
    figure = new_figure(2.6, COLUMN)
    axes = figure.subplots()
    for number, (claims, label) in enumerate(((1, "one claim open"), (10, "10 claims open"), (40, "40 claims open"))):
        levels = nominal_levels(RATE / claims, LOOKS)
        axes.plot(LOOKS, levels, color=PALETTE[number], linestyle="--", marker="_", label=f"level, {label}")
    axes.plot(LOOKS, CROSSES, color="0.2", marker="o", label="a claim that is decided")
    axes.plot(LOOKS, NEVER, color="0.6", marker="o", label="one that stays open")
    axes.set(yscale="log", xlabel="seeds an arm", ylabel="one-sided p", xticks=LOOKS, ylim=(1e-9, 1))
    axes.legend(loc="lower right")
    for path in save_figure(figure, Path(__file__).with_suffix(""), [".png"]):
        print(path)


if __name__ == "__main__":
    main()
