"""Five network families at scale overnight: do they train, and does SkipInit's scalar leave its initial value?"""

import pandas as pd

from nfrepro.plots.comparison import Comparison, Factor
from nfrepro.plots.factors import METHODS
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "pilot"


def family(row: pd.Series) -> str:
    return METHODS.get(row["model.name"], "unnormalized")


COMPARISON = Comparison(
    title="Pilot of scale overnight",
    axis=Factor("family", ("model.name",), family, ("BN", "NF", "FixUp", "SkipInit", "unnormalized")),
    remark="Its seeds enter no test. They decide, by a rule in the experiment's file, whether steps are doubled.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON, learning_curves=True))
