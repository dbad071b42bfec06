"""Top-1 by convolution group width, from depthwise up, with and without BatchNorm (claims C31, C32)."""

from nfrepro.plots.comparison import Comparison, number
from nfrepro.plots.factors import METHOD
from nfrepro.plots.paper_values import DEPTHWISE_LOSS
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "group_width"
COMPARISON = Comparison(
    title="RegNets by width of their groups, with BatchNorm and without",
    axis=number("group width", "model.group_width"),
    line=METHOD,
    without_references="Of the paper one difference is known (second hand): an EfficientNet, whose convolutions are "
    f"depthwise, loses about {DEPTHWISE_LOSS:g} points on ImageNet without BatchNorm.",
    remark="Group width 1 is a depthwise convolution, 8 the authors' choice.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
