"""Table 1 of the paper: top-1 by depth and method, plain and regularised."""

from nfrepro.plots.comparison import Comparison
from nfrepro.plots.factors import DEPTH, METHOD, REGULARIZATION
from nfrepro.plots.paper_values import TABLE_1, Reference
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "table_1"
PRINTED = Reference(
    heading="paper's table 1 (ImageNet)",
    source="mean of 5 seeds; all but one of its numbers are unknown, and of that one the column is inferred",
    values=TABLE_1,
)
COMPARISON = Comparison(
    title="Top-1 by depth and method, plain and regularised",
    axis=DEPTH,
    line=METHOD,
    panel=REGULARIZATION,
    references=(PRINTED,),
    remark="Regularised: stochastic depth, and dropout at a rate chosen here, since the paper's is unknown.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
