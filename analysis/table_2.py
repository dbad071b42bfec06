"""Table 2 of the paper: top-1 at small batch sizes, with and without BatchNorm."""

from nfrepro.plots.comparison import Comparison
from nfrepro.plots.factors import BATCH_SIZE, METHOD
from nfrepro.plots.paper_values import TABLE_2, Reference
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "table_2"
PRINTED = Reference(
    heading="paper's table 2 (ImageNet)",
    source="only the numbers at batch size 4 are known, not of which depth nor after how many epochs",
    values=TABLE_2,
)
COMPARISON = Comparison(
    title="Top-1 at small batch sizes",
    axis=BATCH_SIZE,
    line=METHOD,
    references=(PRINTED,),
    remark="The learning rate is proportional to the batch size; the number of epochs is the same at all of them.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
