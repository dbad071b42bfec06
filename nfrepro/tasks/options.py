"""The complete config of a run, task by task. No torch."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from nfrepro.data.options import (
    CIFAR10Options,
    DataOptions,
    FashionMNISTOptions,
    ImageFolderOptions,
    ImageNetOptions,
    OwnDataOptions,
    SyntheticOptions,
    batch_multiple,
)
from nfrepro.models.activation_names import ActivationName, GainedActivation
from nfrepro.models.options import ModelOptions
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.options import Options, TaskOptions, added
from nfrepro.plugins.names import OURS, OWN, label, origin_of
from nfrepro.training.options import TrainOptions
from nfrepro.training.precision import Precision


class ProbeSchedule(Options):
    """When to measure the signal during training, on a fixed batch of training images."""

    # Optimiser steps after which it is measured; 0 is before training. Steps beyond the last are never reached.
    steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1, max_length=1000)]
    # Images in the batch, without augmentation.
    images: int = Field(default=64, ge=1, le=4096)


class TrainedNetworkTask(TaskOptions):
    """The options that all tasks that train a network share."""

    data: DataOptions
    model: ModelOptions
    train: TrainOptions = TrainOptions()

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        multiple = batch_multiple(self.data)
        if self.train.batch_size % multiple:
            raise ValueError(
                f"train.batch_size: {self.train.batch_size} is not a multiple of {multiple}, as data.mixing "
                f"{self.data.mixing} with data.copies {self.data.copies} requires"
            )
        return self

    def label(self) -> str:
        return f"{self.model.label}-{label(self.data.name)}-batch{self.train.batch_size}-{super().label()}"


class SmoothnessSchedule(Options):
    """When to measure how smooth the loss is, and how far around the weights (arXiv 1805.11604, figure 4)."""

    # Optimiser steps after which it is measured; 0 is before training. Steps beyond the last are never reached.
    steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=2, max_length=1000)]
    # Training images in the batch, which is fixed, without augmentation.
    images: int = Field(default=128, ge=2, le=65536)
    # Steps along the gradient as multiples of the peak learning rate, as in the source; the multiples are our choice.
    step_lengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=2)] = (
        0.5,
        1.0,
        2.0,
        4.0,
    )
    # Steps in the same direction as shares of the norm of all weights (ours), so that networks can be compared whose
    # gradients or weights differ in size.
    relative_lengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=2)] = (
        0.00125,
        0.0025,
        0.005,
        0.01,
    )

    @field_validator("step_lengths", "relative_lengths")
    @classmethod
    def _increase(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if any(one >= other for one, other in pairwise(lengths)):
            raise ValueError(f"{list(lengths)} must increase")
        return lengths


class TrainTask(TrainedNetworkTask):
    """Train one network on one data set and evaluate it on the test split.

    Measurements during training do not change the result; the noise does.
    """

    # Signal propagation while training, into propagation.csv; null: not measured.
    probe: ProbeSchedule | None = None
    # Units that the images switch on and off, into activation_use.csv, as in task `nonlinearity`; null: not counted.
    units: ProbeSchedule | None = added(None)
    # Moments of the inputs of layers, into covariate_shift.csv, as in task `covariate_shift`; null: not measured.
    layer_inputs: ProbeSchedule | None = added(None)
    # Smoothness of the loss along its gradient, into smoothness.csv, as in task `smoothness`; null: not measured.
    smoothness: SmoothnessSchedule | None = added(None)
    # Strength of the noise after every BatchNorm layer in training, as in task `covariate_shift`; 0: none.
    noise: float = added(0.0, ge=0, le=4)

    @model_validator(mode="after")
    def _shift_has_two_measurements(self) -> Self:
        if self.layer_inputs is not None:
            _require_two_measurements("layer_inputs", self.layer_inputs)
        return self

    @model_validator(mode="after")
    def _noise_knows_whole_batches(self) -> Self:
        _require_whole_batches(self.noise, self.train)
        return self

    def label(self) -> str:
        return f"noise{self.noise:g}-{super().label()}" if self.noise else super().label()


def _require_two_measurements(key: str, schedule: ProbeSchedule) -> None:
    if len(set(schedule.steps)) < 2:
        raise ValueError(f"{key}.steps: a shift needs two measurements: give two steps or more")


def _require_whole_batches(noise: float, train: TrainOptions) -> None:
    if noise and train.grad_accum_steps > 1:
        raise ValueError("noise is drawn for whole batches: set train.grad_accum_steps to 1")


class GaussianOptions(Options):
    """Independent N(0, 1) pixels, the input of figures 1 and 2."""

    # What the network sees.
    name: Literal["gaussian"] = "gaussian"

    # Channels of an image.
    channels: int = Field(default=3, ge=1, le=16)


KnownInput = Annotated[
    GaussianOptions | FashionMNISTOptions | CIFAR10Options | ImageFolderOptions | ImageNetOptions | SyntheticOptions,
    Field(discriminator="name"),
]
ProbeInput = Annotated[
    Annotated[KnownInput, Tag(OURS)] | Annotated[OwnDataOptions, Tag(OWN)],
    Discriminator(origin_of),
]


class ProbeTask(TaskOptions):
    """Send one batch through an untrained network and record the signal after every block (paper section 3)."""

    model: ModelOptions
    # Where the batch comes from; for real images the training split is used, normalised.
    data: ProbeInput = GaussianOptions()
    # Side of an image in pixels; real images are resized to it (figures 1 and 2: 512).
    pixels: int = Field(default=224, ge=1, le=4096)
    # Images in the batch; BatchNorm normalises with their statistics.
    batch: int = Field(default=4, ge=1, le=4096)
    # bfloat16 rounds activations to 8 bits inside the network; the statistics are computed in float32 from them.
    precision: Precision = "float32"

    def label(self) -> str:
        return f"{self.model.label}-{label(self.data.name)}{self.pixels}-{super().label()}"


class GainTask(TaskOptions):
    """The gain gamma of an activation: by quadrature, by sampling as in the paper (appendix D), and as published."""

    deterministic: ClassVar[bool] = True

    # Nonlinearity g.
    activation: GainedActivation = "relu"
    # Number of Gaussian vectors to sample, and the length of each.
    vectors: int = Field(default=1024, ge=1, le=1_000_000)
    length: int = Field(default=256, ge=2, le=1_000_000, multiple_of=2)

    def label(self) -> str:
        return f"{label(self.activation)}-{super().label()}"


class LayerMomentsTask(TaskOptions):
    """Mean and variance of z = W g(x), x ~ N(0, 1), against the closed forms (paper sections 4.1 and 4.2)."""

    # Nonlinearity g.
    activation: ActivationName = "relu"
    # plain: weights s N(weight_mean, 1), s^2 = weight_variance / fan_in; scaled_ws: standardized, times gamma.
    weights: Literal["plain", "scaled_ws"] = "plain"
    # Mean of the drawn weights, in units of their standard deviation.
    weight_mean: float = Field(default=0.0, ge=-10, le=10)
    # Variance of the drawn weights times fan-in: 2 is He's.
    weight_variance: float = Field(default=2.0, gt=0, le=100)
    # Inputs N and outputs of the layer, and vectors x drawn.
    fan_in: int = Field(default=512, ge=2, le=65536)
    fan_out: int = Field(default=256, ge=1, le=65536)
    samples: int = Field(default=65536, ge=2, le=100_000_000)

    @model_validator(mode="after")
    def _acts_on_single_numbers(self) -> Self:
        if self.activation == "log_softmax":
            raise ValueError("activation: log_softmax acts over channels, and x has none: use another activation")
        return self

    def label(self) -> str:
        return f"{self.weights}-{label(self.activation)}-fan_in{self.fan_in}-{super().label()}"


class NetworkPropertiesTask(TaskOptions):
    """Checks on one network that need no training: independence of images, folding, identity blocks, cost."""

    deterministic: ClassVar[bool] = True

    model: ModelOptions
    # Side of the images (N(0, 1) noise) that are compared, and how many of them.
    pixels: int = Field(default=64, ge=1, le=4096)
    batch: int = Field(default=4, ge=2, le=4096)

    @model_validator(mode="after")
    def _has_stages(self) -> Self:
        if isinstance(self.model, OwnNetworkOptions) or self.model.name == "fully_connected":
            raise ValueError(f"model.name: {self.model.name} has no stages of convolutions to check")
        return self

    def label(self) -> str:
        return f"{self.model.label}-{super().label()}"


class LandscapeGrid(Options):
    """The loss surface on a random plane through the trained weights (arXiv 1712.09913)."""

    # Points along each direction, odd: the weights are in the middle.
    side: int = Field(default=15, ge=3, le=401)
    # How far the plane reaches: 1 moves each filter by its own norm.
    extent: float = Field(default=1.0, gt=0, le=100)
    # Training images, the first of those on which smoothness would be measured.
    images: int = Field(default=128, ge=2, le=65536)

    @field_validator("side")
    @classmethod
    def _is_odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"{side} is even, so the grid would not contain the weights themselves: make it odd")
        return side


class SmoothnessTask(TrainedNetworkTask):
    """Train like task `train`, and measure how smooth the loss is.

    Measurements along its gradient during training go into smoothness.csv, those on a plane at the end into
    landscape.csv.
    """

    # Only task `train` measures that.
    probe: None = None
    smoothness: SmoothnessSchedule
    landscape: LandscapeGrid = LandscapeGrid()


class CovariateShiftTask(TrainedNetworkTask):
    """Train one network and follow the moments of the inputs of its layers (arXiv 1502.03167; 1805.11604)."""

    # Optimiser steps, two or more, after which moments are measured on a fixed batch; 0: before training.
    probe: ProbeSchedule
    # Strength of the noise after every BatchNorm layer in training, drawn again at every step; 0: none. At 1 a channel
    # has, at each step, a shift from [-0.5, 0.5] and a factor from [1, 1.25], and each image has values near them.
    noise: float = Field(default=0.0, ge=0, le=4)
    # Evaluate once more at the end, with running averages of BatchNorm re-estimated on the training images without
    # noise and augmentation: the averages from training include the noise, which the test does not.
    reestimate_batch_norm: bool = added(False)

    @model_validator(mode="after")
    def _shift_has_two_measurements(self) -> Self:
        _require_two_measurements("probe", self.probe)
        return self

    @model_validator(mode="after")
    def _noise_knows_whole_batches(self) -> Self:
        _require_whole_batches(self.noise, self.train)
        return self

    def label(self) -> str:
        return f"noise{self.noise:g}-{super().label()}" if self.noise else super().label()


class NonlinearityTask(TrainedNetworkTask):
    """Train one network and follow which of its units the images switch on and off."""

    # Optimiser steps after which units are counted on a fixed batch; 0: before training.
    probe: ProbeSchedule


class GradientCorrelationTask(TaskOptions):
    """Correlation of the gradients of untrained networks at inputs along a circle (arXiv 1702.08591)."""

    model: ModelOptions
    # Where inputs come from: two that span the circle, and a batch; for real images the training split, normalised.
    data: ProbeInput = GaussianOptions(channels=1)
    # Side of an image in pixels; real images are resized to it.
    pixels: int = Field(default=28, ge=1, le=4096)
    # Inputs on the circle. Inputs a quarter of the circle apart are orthogonal.
    inputs: int = Field(default=128, ge=4, le=65536, multiple_of=4)
    # Other inputs, not on the circle, whose statistics BatchNorm normalises with (ours: the source's way is not known).
    batch: int = Field(default=128, ge=2, le=65536)
    # Initialisations, each with a new circle, that a run averages over (source: 20, as we remember it).
    draws: int = Field(default=20, ge=1, le=100_000)

    @model_validator(mode="after")
    def _images_fit_the_network(self) -> "GradientCorrelationTask":
        taken = getattr(self.model, "pixels", self.pixels)
        if taken != self.pixels:
            raise ValueError(f"pixels: {self.pixels}, but the network expects model.pixels: {taken}")
        return self

    def label(self) -> str:
        return f"{self.model.label}-{super().label()}"
