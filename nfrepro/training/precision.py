"""Whether a device computes in the precision of a run, or would emulate it. No torch at import."""

from nfrepro.errors import InputError


def is_emulated(precision: str, device: str) -> bool:
    """Whether `device` ("cpu", "cuda:0", …) has no instructions for `precision`: a hundred times as slow as float32."""
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
