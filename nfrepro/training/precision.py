"""The arithmetic of a run: set by its options alone, never by the machine. No torch at import."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from nfrepro.errors import InputError

if TYPE_CHECKING:
    import torch

# float32: IEEE arithmetic, also in convolutions, which PyTorch by default runs in TF32 on newer NVIDIA GPUs.
# tf32: NVIDIA GPUs multiply with mantissas of 10 bits and add in float32; on a CPU the same as float32.
# bfloat16: autocast, with float32 weights.
Precision = Literal["float32", "tf32", "bfloat16"]


def is_emulated(precision: str, device: str) -> bool:
    """Whether `device` ("cpu", "cuda:0", …) emulates `precision`, which is a hundred times as slow as float32."""
    if precision != "bfloat16" or not device.startswith("cpu"):
        return False
    import torch

    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def check_precision(precision: str, device: str) -> None:
    """Raises `InputError` for training in an emulated precision."""
    if is_emulated(precision, device):
        raise InputError(
            f"train.precision: this processor has no {precision} instructions and would emulate them, "
            "a hundred times as slow: use a GPU, another processor, or --set train.precision=float32"
        )


def prepare_device(name: str, precision: str) -> "torch.device":
    """The device of that name, set up to compute in `precision` and reproducibly, whatever ran before."""
    import torch

    device = torch.device(name)
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        torch.cuda.set_device(device)  # kernels compiled by Triton and threads that pin memory use the current one
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    _set_multiplication("tf32" if precision == "tf32" else "ieee")
    return device


def autocast(device: "torch.device", precision: str) -> "torch.autocast":
    """The context of a forward pass in `precision`."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def weight_dtype(context: "torch.autocast") -> "torch.dtype":
    """The dtype of the weights that convolutions use in that context."""
    import torch

    return torch.bfloat16 if context._enabled else torch.float32


@contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Switches to IEEE float32, for a measurement within a run of another precision."""
    before = multiplication()
    _set_multiplication("ieee")
    try:
        yield
    finally:
        _set_multiplication(before)


def multiplication() -> str:
    """How GPUs multiply float32 in this process now: "ieee" or "tf32"."""
    import torch

    return "tf32" if torch.backends.cudnn.conv.fp32_precision == "tf32" else "ieee"  # type: ignore[attr-defined]


def _set_multiplication(kind: str) -> None:
    """Sets "ieee" or "tf32" everywhere, including torch's older switches: reading those raises if they disagree."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    cudnn: Any = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = kind
    torch.backends.cuda.matmul.fp32_precision = kind
