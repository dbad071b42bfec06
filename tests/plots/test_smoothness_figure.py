"""The figure of smoothness: everything that is written lies in it."""

import pandas as pd
import pytest

from nfrepro.plots.smoothness_figure import draw_smoothness


def rows() -> pd.DataFrame:
    """smoothness.csv of one seed: three steps, two points each, for both rulers."""
    frame = pd.DataFrame(
        [
            {"seed": 0, "step": step, "ruler": ruler, "length": length, "loss": 2.0 / length, "start_loss": 2.0}
            for ruler in ("learning_rate", "weight_norm")
            for step in (16, 64, 256)
            for length in (0.5, 1.0)
        ]
    )
    return frame.assign(gradient_change=0.1, gradient_norm=1.0, weight_norm=3.0, distance=frame["length"])


@pytest.mark.parametrize("words", [5, 60, 150])
@pytest.mark.parametrize("arms", [1, 4, 7])
def test_note_and_legend_lie_inside(words: int, arms: int) -> None:
    curves = {f"network {number}": rows() for number in range(arms)}
    figure = draw_smoothness(curves, "title", "seven-letters " * words)
    figure.canvas.draw()
    (legend,) = figure.subfigs[-1].legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.y0 <= box.y0, "cut at the lower edge"
    assert page.x0 <= box.x0
    assert box.x1 <= page.x1
    lowest = min(axes.get_tightbbox().y0 for row in figure.subfigs[:-1] for axes in row.axes)
    assert box.y1 <= lowest + 1, "lies over the panels"
