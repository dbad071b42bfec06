"""What the options of every room have in common. Ground floor: every room may import it; no torch.

Each room keeps its own `options.py` beside the code that reads it: schema, defaults and manual at once.
"""

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Options that refuse unknown keys, wrong types and non-finite numbers, and do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TaskOptions(Options):
    """The complete config of one run: everything that may change its result, and nothing else."""

    # Seeds weights, data order and augmentation. 0 is a seed like any other.
    seed: int = Field(default=0, ge=0, lt=2**31)

    def label(self) -> str:
        """Readable front of the run's folder name: a function of the config alone; letters, digits, `.`, `_`, `-`."""
        return f"seed{self.seed}"
