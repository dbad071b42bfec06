"""Cost of a signal propagation plot at depth 600, compared with the bare forward passes.

Measures `propagation` on our network and on timm's of the same shape, and timm's own `extract_spp_stats`, interleaved
in one process.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from timm.models.nfnet import NfCfg, NormFreeNet
from timm.utils.model import avg_ch_var, avg_ch_var_residual, avg_sq_ch_mean, extract_spp_stats
from torch import Tensor, nn

from nfrepro.bench.models import cpu_peak_bytes
from nfrepro.models import create
from nfrepro.signal import propagation
from nfrepro.signal.evaluation import evaluation

BLOCKS = (50, 50, 50, 50)
CHANNELS = (256, 512, 1024, 2048)
BATCH, PIXELS, ROUNDS = 2, 224, 5


def bench_propagation() -> Iterator[str]:
    """Goals: 0.7 x the time and 0.5 x the memory of timm's, and less than 1.1 x the bare forward pass."""
    x = torch.randn(BATCH, 3, PIXELS, PIXELS)
    ours = create("nf_resnet600", skipinit_gain=None).eval()
    timms = NormFreeNet(NfCfg(depths=BLOCKS, channels=CHANNELS, num_features=0, stem_type="7x7_pool", act_layer="relu"))
    calls: dict[str, Callable[[], object]] = {
        "our nf_resnet600, bare": lambda: _bare(ours, x),
        "our nf_resnet600, propagation": lambda: propagation(ours, x),
        "timm's nf_resnet600, bare": lambda: _bare(timms, x),
        "timm's nf_resnet600, propagation": lambda: propagation(timms, x),
        "timm's nf_resnet600, extract_spp_stats": lambda: _extract(timms, x),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks = {}
    for name, call in calls.items():  # warm-up
        peaks[name] = cpu_peak_bytes(call) / 2**20
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    yield f"cpu, {torch.get_num_threads()} threads, batch {BATCH}, {PIXELS} pixels, float32, n = {ROUNDS}"
    for name, values in seconds.items():
        yield f"{name:40} median {statistics.median(values):6.2f} s  peak {peaks[name]:6.0f} MiB"
    pairs = (
        ("our nf_resnet600, propagation", "our nf_resnet600, bare"),
        ("timm's nf_resnet600, propagation", "timm's nf_resnet600, bare"),
        ("timm's nf_resnet600, extract_spp_stats", "timm's nf_resnet600, bare"),
        ("timm's nf_resnet600, propagation", "timm's nf_resnet600, extract_spp_stats"),
        ("our nf_resnet600, propagation", "timm's nf_resnet600, extract_spp_stats"),
    )
    for what, over in pairs:
        ratios = [a / b for a, b in zip(seconds[what], seconds[over], strict=True)]
        yield (
            f"{what} / {over}: time {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}), "
            f"memory {peaks[what] / peaks[over]:.2f}"
        )


@torch.no_grad()
def _bare(model: nn.Module, x: Tensor) -> None:
    with evaluation(model, batch_statistics=True):
        model(x)


@torch.no_grad()
def _extract(model: nn.Module, x: Tensor) -> None:
    """Computes timm's statistics after every block. timm makes its own input; its leftover hooks are removed."""
    hooks = [
        (place, function)
        for block in ("stages.?.?", "stages.?.??")
        for place, function in (
            (block, avg_sq_ch_mean),
            (block, avg_ch_var),
            (f"{block}.conv3", avg_ch_var_residual),
        )
    ]
    places, functions = zip(*hooks, strict=True)
    extract_spp_stats(model, places, functions, input_shape=list(x.shape))  # type: ignore[no-untyped-call]
    for module in model.modules():
        module._forward_hooks.clear()
