"""Cost of training: arithmetic on counts and rates, without a network and without torch."""

from dataclasses import dataclass
from typing import Any, Literal

from nfrepro.tasks.work import Work

# A forward pass, and a backward pass of twice its cost; two operations per multiply-add.
TRAINING_OVER_FORWARD = 3
OPERATIONS = 2
BYTES = 4  # of a float32
# Memory of activations relative to float32: bfloat16 autocast needs a little more than half (pooling keeps indices).
ACTIVATION_SHARE = {"float32": 1.0, "tf32": 1.0, "bfloat16": 0.53}
# Assumed speed of a device if nothing is measured, in TFLOP/s; of a CPU, per thread. An H100 reached 20, 74 and 137
# with a ResNet-50, and 53 in bfloat16 with a small network on CIFAR-10 (docs/gpu.md).
ASSUMED_TFLOPS = {
    ("cpu", "float32"): 0.03,
    ("cpu", "tf32"): 0.03,
    ("cpu", "bfloat16"): 0.03,
    ("cuda", "float32"): 20.0,
    ("cuda", "tf32"): 40.0,
    ("cuda", "bfloat16"): 50.0,
}
# Assumed least time of a layer in a step, in seconds: its kernels have to be launched forward, backward and in the
# update, however small they are. Two images took 0.7 ms a layer in an NF-ResNet on a CPU and 0.5 in a BN-ResNet; small
# networks took 0.9 and 0.5 on an H100 (docs/gpu.md).
ASSUMED_LAYER_SECONDS = 0.0006

# Sizes of run.json, and of a line of metrics.jsonl.
RECORD_BYTES, METRICS_BYTES = 6_000, 400

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Schedule:
    """The amount of work of a run."""

    steps: int
    images: int  # trained on, all steps together
    evaluated_images: int  # all evaluations together

    @staticmethod
    def of(config: dict[str, Any], train_images: int, test_images: int) -> "Schedule":
        """The schedule of a run of the task `train`; no steps if there are fewer images than a batch takes."""
        train = config["train"]
        epochs, batch_size = train["epochs"], train["batch_size"]
        steps = epochs * (train_images // batch_size)
        networks = 1 if train["ema_decay"] is None else 2
        return Schedule(steps, steps * batch_size, _evaluations(config) * networks * test_images)


def _evaluations(config: dict[str, Any]) -> int:
    return -(-int(config["train"]["epochs"]) // int(config["train"]["evaluate_every"]))


def rows_at_once(config: dict[str, Any], processes: int = 1) -> int:
    """Images that go through the network of a process at once."""
    train = config["train"]
    return int(train["batch_size"]) // max(int(train["grad_accum_steps"]), processes)


def assumed_tflops(device: DeviceType, precision: str, threads: int) -> float:
    """The rate, in TFLOP/s, that an estimate assumes."""
    return ASSUMED_TFLOPS[device, precision] * (threads if device == "cpu" else 1)


def estimated_images_per_second(work: Work, rows: int, tflops: float) -> float:
    """Training images per second at `tflops` TFLOP/s, if `rows` images go through the network at once."""
    return 1 / max(_operation_seconds(work, tflops), _launch_seconds(work, rows))


def limited_by_launches(work: Work, rows: int, tflops: float) -> bool:
    """Whether `rows` images are so few operations that it takes longer to launch them."""
    return _launch_seconds(work, rows) > _operation_seconds(work, tflops)


def _operation_seconds(work: Work, tflops: float) -> float:
    """Seconds of an image's operations in a step."""
    return OPERATIONS * TRAINING_OVER_FORWARD * work.multiply_adds / (tflops * 1e12)


def _launch_seconds(work: Work, rows: int) -> float:
    """An image's share of the seconds that a step takes at least."""
    return ASSUMED_LAYER_SECONDS * work.layers / rows


def run_hours(schedule: Schedule, work: Work, images_per_second: float) -> float:
    """Hours of a run at that rate; an evaluated image costs a forward pass, at the same operations per second."""
    forward = work.test_multiply_adds / (TRAINING_OVER_FORWARD * work.multiply_adds)
    return (schedule.images + forward * schedule.evaluated_images) / images_per_second / 3600


def weight_copies(ema: bool) -> int:
    """The number of copies of the weights in memory: weights, gradients, momentum; and the average, if there is one."""
    return 3 + ema


def peak_bytes(work: Work, rows: int, precision: str, ema: bool) -> int:
    """Estimated peak memory, in bytes, of a step on `rows` images at once, without workspace of single layers."""
    weights = BYTES * work.parameters * weight_copies(ema) + work.kept_weight_bytes
    return weights + image_bytes(work, rows, precision)


def image_bytes(work: Work, rows: int, precision: str) -> int:
    """Bytes of `rows` images and of their activations that are kept for the backward pass."""
    return round(rows * (work.activation_bytes * ACTIVATION_SHARE[precision] + work.image_bytes))


def checkpoint_bytes(work: Work, ema: bool) -> int:
    """Bytes of one checkpoint: weights, momentum, average."""
    return BYTES * work.parameters * (weight_copies(ema) - 1)


def result_bytes(config: dict[str, Any]) -> int:
    """Bytes of a stored run, without a probe's table."""
    return RECORD_BYTES + METRICS_BYTES * _evaluations(config)
