"""Draws docs/block.png: an NF-ResNet transition block, and where alpha, beta and gamma act."""

from pathlib import Path

from matplotlib.axes import Axes

from nfrepro.plots.style import PALETTE, new_figure, save_figure

BRANCH = ["1×1 scaled WS", "activation · γ", "3×3 scaled WS", "activation · γ", "1×1 scaled WS"]


def box(axes: Axes, x: float, y: float, text: str, colour: object = "0.92") -> None:
    axes.text(x, y, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.35", "fc": colour, "ec": "0.3"})


def arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """Draws a line through `points` with an arrowhead at the last one."""
    axes.plot(*zip(*points, strict=True), color="0.3", linewidth=1.0, zorder=0)
    axes.annotate(
        "", points[-1], points[-2], arrowprops={"arrowstyle": "->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    )


def draw(axes: Axes, title: str, transition: bool) -> None:
    orange, green, red = ((*PALETTE[index], 0.3) for index in (1, 2, 3))
    skip, height = -0.75, 0.28
    levels = {"x": 9.2, "enter": 7.9, "alpha": 2.3, "sum": 1.2, "out": 0.1}
    axes.set_title(title)
    axes.text(0, levels["x"], "$x_l$,  expected variance $\\beta_l^2$", ha="center", va="center")
    box(axes, 0, levels["enter"], "activation · γ / $\\beta_l$", orange)
    arrow(axes, (0, levels["x"] - height), (0, levels["enter"] + height))
    above = levels["enter"]
    for text, y in zip(BRANCH, (6.8, 5.9, 5.0, 4.1, 3.2), strict=True):
        text += ", stride" if transition and "3×3" in text else ""
        box(axes, 0, y, text, orange if "γ" in text else "0.92")
        arrow(axes, (0, above - height), (0, y + height))
        above = y
    box(axes, 0, levels["alpha"], "· α · skip gain (SkipInit: 0 at first)", green)
    arrow(axes, (0, above - height), (0, levels["alpha"] + height))
    box(axes, 0, levels["sum"], "+", red)
    arrow(axes, (0, levels["alpha"] - height), (0, levels["sum"] + height))
    arrow(axes, (0, levels["sum"] - height), (0, levels["out"] + height))
    leaves = 7.35 if transition else 8.55  # after the first activation, or before it
    arrow(axes, (0, leaves), (skip, leaves), (skip, levels["sum"]), (-0.08, levels["sum"]))
    if transition:
        box(axes, skip, 5.0, "1×1 scaled WS,\nstride")
    variance = "1 + α²" if transition else "$\\beta_l^2$ + α²"
    axes.text(0, levels["out"], f"$x_{{l+1}}$,  expected variance {variance}", ha="center", va="center")
    axes.set_xlim(-1.15, 0.75)
    axes.set_ylim(-0.2, 9.6)
    axes.set_axis_off()


def main() -> None:
    figure = new_figure(4.8)
    left, right = figure.subplots(1, 2)
    draw(left, "a block: the shortcut is x itself", transition=False)
    draw(right, "a transition block: the shortcut resets the variance", transition=True)
    for path in save_figure(figure, Path(__file__).with_suffix(""), [".png"]):
        print(path)


if __name__ == "__main__":
    main()
