"""The paper's figures, tables and sections, each with the experiment that repeats it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperPart:
    """A figure, a table or a section of the paper."""

    title: str
    experiment: str
    figure: str = ""  # the name of our figure, if it is not that of the experiment
    printed: bool = False  # a figure or a table of the paper, rather than a statement in its text

    @property
    def figure_name(self) -> str:
        """The name of our figure, without suffix."""
        return self.figure or self.experiment


PARTS = (
    PaperPart("Figure 1: signal propagation with BatchNorm", "figure_1", printed=True),
    PaperPart("Figure 2: signal propagation without normalization", "figure_2", printed=True),
    PaperPart("Figure 3: NF-RegNets and EfficientNets", "figure_3", printed=True),
    PaperPart("Table 1: top-1 by method and depth", "table_1", printed=True),
    PaperPart("Table 2: small batches", "table_2", printed=True),
    PaperPart("Section 3: signal propagation in network variants", "spp_variants", "spp_variants_standardization"),
    PaperPart("Section 4: alpha", "alpha_ablation"),
    PaperPart("Section 4: beta", "beta"),
    PaperPart("Section 4.2: Scaled Weight Standardization", "weight_standardization"),
    PaperPart("Section 4.3: gamma of each activation", "gains"),
    PaperPart("Activations in training", "activations"),
    PaperPart("SkipInit scalar", "skipinit_gain"),
    PaperPart("Regularisation", "regularization"),
    PaperPart("Large batches, adaptive gradient clipping", "large_batch"),
    PaperPart("Weight decay of gains and biases", "weight_decay_mask"),
    PaperPart("Depthwise convolutions", "group_width"),
    PaperPart("Stability of very deep networks", "deep_stability"),
)
