"""How many runs should share a GPU: as many as gain by it and fit, by what a dry run measured."""

from dataclasses import replace

import pytest

from nfrepro.cost.measurements import Device, Measurement
from nfrepro.cost.plan import runs_on_a_gpu

GB = 10**9
SMALL = Measurement(
    shape="0",
    label="small",
    device=Device("cuda", "a GPU", 4),
    finished="2026-11-26T00:00:00+00:00",
    status="measured",
    peak_bytes=2 * GB,
    total_bytes=80 * GB,
)


@pytest.mark.parametrize(
    ("peak_gb", "step_seconds", "expected"),
    [
        (2, 0.005, 4),  # a small network, whose steps wait for the CPU
        (2, 0.2, 1),  # a large one keeps the GPU busy by itself
        (30, 0.005, 2),  # 72 GB may be filled, with 0.6 GB a process
        (71, 0.005, 1),
        (200, 0.005, 1),  # not even one fits: what plan says of memory, says so
    ],
)
def test_as_many_as_gain_and_fit(peak_gb: int, step_seconds: float, expected: int) -> None:
    assert runs_on_a_gpu(replace(SMALL, peak_bytes=peak_gb * GB), step_seconds) == expected


def test_nothing_is_proposed_without_a_measurement() -> None:
    assert runs_on_a_gpu(None, 0.005) == 1
    assert runs_on_a_gpu(replace(SMALL, peak_bytes=None), 0.005) == 1
