"""Options of training: schema, defaults and manual at once. No torch.

Defaults are the paper's recipe for its ResNets (authors' experiment.py). The scale of an experiment may change the
number of epochs.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import Options, rare, renamed
from nfrepro.plugins.names import OURS, OWN, Call, OwnName, check_options, is_name, origin_of
from nfrepro.training.precision import Precision

OptimizerName = Annotated[
    Annotated[Literal["sgd", "adamw"], Tag(OURS)] | Annotated[OwnName, Tag(OWN)], Discriminator(origin_of)
]
# The arguments of a function that makes an optimizer, other than its options: torch's parameter groups, each with its
# weight decay, and the learning rate.
MAKER = Call(positional=("parameter groups",), named=("lr",))
# The options of the built-in optimizers that `optimizer_options` may set.
OPTIMIZER_OPTIONS: dict[str, tuple[str, ...]] = {"sgd": (), "adamw": ("betas", "eps", "amsgrad")}
MOMENTUM = 0.9


class TrainOptions(Options):
    """SGD with Nesterov momentum, or another optimizer; linear warm-up, then a cosine."""

    # Passes over the training images.
    epochs: int = Field(default=90, ge=1)
    # Images per optimiser step.
    batch_size: int = Field(default=1024, ge=1)
    # Consecutive parts into which each batch is cut, so that it needs less memory; their gradients add up to one step.
    # Networks without BatchNorm train the same; BatchNorm normalises with the statistics of a part (ghost statistics).
    grad_accum_steps: int = renamed(1, old_name="micro_batches", ge=1)
    # Peak learning rate at 256 images a batch. The rate used is lr_per_256 * batch_size / 256.
    lr_per_256: float = renamed(0.1, old_name="lr", gt=0)
    # Epochs of linear warm-up from 0, counted inside `epochs`.
    warmup_epochs: float = Field(default=5.0, ge=0)
    # Learning rate that the cosine ends at, as an absolute rate: not scaled by the batch size (authors' NF-RegNets:
    # 0.001).
    final_lr: float = Field(default=0.0, ge=0)
    # Nesterov momentum, for sgd only.
    momentum: float = Field(default=MOMENTUM, ge=0, lt=1)
    # Coupled L2 decay: added to the gradient of convolution and classifier weights; not of gains, biases, BatchNorm's
    # parameters or SkipInit scalars.
    weight_decay: float = Field(default=1e-4, ge=0)
    # true: all parameters decay, including gains, biases, BatchNorm's parameters and SkipInit scalars.
    decay_norm_and_bias: bool = renamed(False, old_name="decay_all")
    # Adaptive gradient clipping: the gradient norm of an output unit is at most this share of its weight norm; not in
    # the classifier (arXiv 2102.06171: 0.01 for batches of 1024 to 4096, 0.01 to 0.16 tried). null: no clipping.
    clip_factor: float | None = Field(default=None, gt=0)
    # Softmax cross entropy against (1 - s) * target + s / classes; the target is one-hot, or of mixed images a mixture.
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    # float32 (IEEE, also on GPUs that by default multiply in TF32), tf32 (the same as float32 on a CPU), or bfloat16
    # autocast with float32 weights. Part of a run's identity: never chosen by the machine.
    precision: Precision = "float32"
    # Decay of the exponential moving average of the weights, warmed up as min(decay, (1 + step) / (10 + step)).
    # null: no average.
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    # Epochs between evaluations on the test split; there is always one after the last epoch, which is the headline.
    evaluate_every: int = Field(default=1, ge=1)
    # sgd, adamw (whose decay is decoupled: lr * weight_decay of a weight), or your own: make(groups, lr=…, **options)
    # returns a torch Optimizer. Schedule, weight decay by groups and clipping are the same for all.
    optimizer: OptimizerName = rare("sgd")
    # Options of adamw (betas, eps, amsgrad) or of your own optimizer.
    optimizer_options: dict[str, Any] = rare({}, validate_default=True)

    @model_validator(mode="after")
    def _warmup_ends_before_training(self) -> "TrainOptions":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be less than epochs ({self.epochs})")
        return self

    @model_validator(mode="after")
    def _accumulated_parts_are_equal(self) -> "TrainOptions":
        size, parts = self.batch_size, self.grad_accum_steps
        if size % parts:
            raise ValueError(f"batch_size ({size}) must be a multiple of grad_accum_steps ({parts})")
        return self

    @model_validator(mode="after")
    def _cosine_falls(self) -> "TrainOptions":
        if self.final_lr > self.peak_lr:
            raise ValueError(f"final_lr ({self.final_lr:g}) must be at most the peak rate ({self.peak_lr:g})")
        return self

    @field_validator("optimizer_options")
    @classmethod
    def _optimizer_takes_them(cls, options: dict[str, Any], earlier: ValidationInfo) -> dict[str, Any]:
        if (optimizer := earlier.data.get("optimizer")) is None:  # invalid itself
            return options
        if is_name(optimizer):
            check_options(optimizer, options, MAKER)
            return options
        known = OPTIMIZER_OPTIONS[optimizer]
        for option in options:
            if option not in known:
                hint = did_you_mean(option, known) or f"; it takes {', '.join(known) or 'none'}"
                raise InputError(f"unexpected option {option} of {optimizer}{hint}")
        return options

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> "TrainOptions":
        if self.optimizer != "sgd" and self.momentum != MOMENTUM:
            raise InputError(
                f"momentum: an option of sgd, not of {self.optimizer}: leave it out, or use optimizer_options"
            )
        return self

    def __hash__(self) -> int:
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up: linear in the batch size."""
        return self.lr_per_256 * self.batch_size / 256
