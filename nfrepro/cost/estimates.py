"""Cost of training: arithmetic on counts and rates, without a network and without torch."""

from dataclasses import dataclass
from typing import Any, Literal

from nfrepro.tasks.work import Work

# A forward pass and twice as much backward; two operations a multiply-add.
TRAINING_OVER_FORWARD = 3
OPERATIONS = 2
BYTES = 4  # of a float32
# Share of float32's activations that bfloat16 autocast keeps: a little more than half (pooling keeps indices).
ACTIVATION_SHARE = {"float32": 1.0, "tf32": 1.0, "bfloat16": 0.53}
# Operations a second that a device is taken to do where nothing is measured, in TFLOP/s; of a CPU, one thread. An H100
# did 20, 74 and 137 with a ResNet-50, and 53 in bfloat16 with a small network on CIFAR-10 (docs/gpu.md).
ASSUMED_TFLOPS = {
    ("cpu", "float32"): 0.03,
    ("cpu", "tf32"): 0.03,
    ("cpu", "bfloat16"): 0.03,
    ("cuda", "float32"): 20.0,
    ("cuda", "tf32"): 40.0,
    ("cuda", "bfloat16"): 50.0,
}

# Of run.json, and of a line of metrics.jsonl.
RECORD_BYTES, METRICS_BYTES = 6_000, 400

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Schedule:
    """How much a run does."""

    steps: int
    images: int  # trained on, all steps together
    evaluated_images: int  # all evaluations together

    @staticmethod
    def of(config: dict[str, Any], train_images: int, test_images: int) -> "Schedule":
        """The schedule of a run of the task `train`; no step if there are fewer images than a batch takes."""
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


def estimated_images_per_second(work: Work, tflops: float) -> float:
    """Training images a second at `tflops` 10^12 operations a second."""
    return tflops * 1e12 / (OPERATIONS * TRAINING_OVER_FORWARD * work.multiply_adds)


def run_hours(schedule: Schedule, work: Work, images_per_second: float) -> float:
    """Training at that rate; an image of an evaluation costs a forward pass, at the same operations a second."""
    forward = work.test_multiply_adds / (TRAINING_OVER_FORWARD * work.multiply_adds)
    return (schedule.images + forward * schedule.evaluated_images) / images_per_second / 3600


def weight_copies(ema: bool) -> int:
    """Weights, gradients, momentum; and the average, if there is one."""
    return 3 + ema


def peak_bytes(work: Work, rows: int, precision: str, ema: bool) -> int:
    """Estimate of the most memory that a step on `rows` images at once holds: without workspace of single layers."""
    weights = BYTES * work.parameters * weight_copies(ema) + work.kept_weight_bytes
    return weights + image_bytes(work, rows, precision)


def image_bytes(work: Work, rows: int, precision: str) -> int:
    """Bytes of `rows` images and of what the network keeps of them for backward."""
    return round(rows * (work.activation_bytes * ACTIVATION_SHARE[precision] + work.image_bytes))


def checkpoint_bytes(work: Work, ema: bool) -> int:
    """Bytes of one checkpoint: weights, momentum, average."""
    return BYTES * work.parameters * (weight_copies(ema) - 1)


def result_bytes(config: dict[str, Any]) -> int:
    """Bytes of a stored run, without a probe's table."""
    return RECORD_BYTES + METRICS_BYTES * _evaluations(config)
