"""Checks of processes on the GPU: a broken context, runs that share the GPU, and the CPU that feeds it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nfrepro.bench.gpu_check import timing
from nfrepro.bench.gpu_check.timing import TINY, Fact, final_values


def faults(device: str) -> Iterator[Fact]:
    """Whether a broken GPU context takes later runs of the same process along; tried in a child process."""
    code = f"from nfrepro.bench.gpu_check.process_checks import break_context; break_context({device!r})"
    child = [sys.executable, "-c", code]
    found = subprocess.run(child, capture_output=True, text=True, timeout=90, check=False)
    lines = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    yield {"status": found.returncode, "said": lines, "error": found.stderr[-300:] if found.returncode else ""}


def break_context(device: str) -> None:
    """Print as JSON how runs before and after a device-side assertion end, in this process."""
    from nfrepro.launch.run_record import Failure

    options = timing.task({"name": "nf_resnet", **TINY}, 64, images=128)

    def attempt(what: str, action: Callable[[], object]) -> None:
        try:
            action()
            print(json.dumps({what: "fine"}))
        except Exception as error:
            found = Failure.of(error)
            print(json.dumps({what: [type(error).__name__, found.text[:100], found.of_machine]}))

    def assertion() -> None:
        torch.zeros(3, device=device)[torch.tensor([9], device=device)].sum().item()

    attempt("a run", lambda: final_values(options, device))
    attempt("too much memory", lambda: torch.empty(1 << 40, device=device))
    attempt("a run after it", lambda: final_values(options, device))
    attempt("an assertion on the device", assertion)
    attempt("a run after that", lambda: final_values(options, device))


PACKED = """\
title: runs that share a GPU
task: train
set:
  data: {name: synthetic, channels: 3, pixels: 32, train_images: 51200, test_images: 10000}
  model: {name: nf_resnet, blocks: [3, 3, 3], width: 0.5, stem: small}
  train: {epochs: 2, batch_size: 256, lr_per_256: 0.2, warmup_epochs: 0.5, precision: bfloat16}
grid: {seed: SEEDS}
scales: {gpu: {}}
"""


def sharing(device: str) -> Iterator[Fact]:
    """Several runs at once on one GPU, from the local queue: with single launches, with graphs, and with MPS."""
    for jobs, graph, mps in ((1, "1", False), (4, "0", False), (4, "1", False), (4, "1", True)):
        with tempfile.TemporaryDirectory() as folder, _multi_process_service(mps) as started:
            if not started:
                yield {"jobs": jobs, "mps": "cannot be started"}
                continue
            work = Path(folder)
            (work / "packed.yaml").write_text(PACKED.replace("SEEDS", str(list(range(jobs)))))
            environment = {
                **os.environ,
                "NFREPRO_EXPERIMENTS": str(work),
                "NFREPRO_RESULTS": str(work / "results"),
                "NFREPRO_CUDA_GRAPH": graph,
            }
            command = [sys.executable, "-m", "nfrepro", *f"sweep packed --scale gpu --no-draw --jobs {jobs}".split()]
            begun = time.monotonic()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
            seconds = time.monotonic() - begun
            records = [json.loads(path.read_text()) for path in work.glob("results/runs/*/run.json")]
            rates = [record["final"]["images_per_second"] for record in records if record["final"]]
            yield {
                "jobs": jobs,
                "graph": graph == "1",
                "mps": mps,
                "status": done.returncode,
                "seconds": round(seconds, 1),
                "images_s_together": round(sum(rates)),
                "same_bits": len({record["final"]["weights_sha256"] for record in records if record["final"]}),
                "error": done.stderr[-300:] if done.returncode else "",
            }


@contextmanager
def _multi_process_service(wanted: bool) -> Iterator[bool]:
    """Starts NVIDIA's MPS if `wanted`, so that kernels of several processes run at once; yields False if it cannot."""
    control = shutil.which("nvidia-cuda-mps-control")
    if not wanted:
        yield True
        return
    if control is None:
        yield False
        return
    yield subprocess.run([control, "-d"], capture_output=True, timeout=20, check=False).returncode == 0
    subprocess.run([control], input="quit\n", text=True, capture_output=True, timeout=20, check=False)


def streaming(device: str) -> Iterator[Fact]:
    """Images per second that the CPU decodes, crops and sends for training on ImageNet."""
    import numpy as np
    from PIL import Image

    from nfrepro.data.loader_rate import loader_rate
    from nfrepro.data.options import ImageNetOptions
    from nfrepro.data.sources import load

    random = np.random.default_rng(0)
    base = np.kron(random.integers(0, 255, (25, 32, 3)), np.ones((15, 16, 1))) + random.normal(0, 12, (375, 512, 3))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for split, count in (("train", 600), ("val", 8)):
            for label in ("a", "b"):
                (root / "imagenet" / split / label).mkdir(parents=True)
                for number in range(count // 2):
                    image = Image.fromarray(np.roll(base.clip(0, 255).astype("uint8"), number, 0))
                    image.save(root / "imagenet" / split / label / f"{number}.jpg", quality=90)
        os.environ["NFREPRO_DATA"] = str(root)
        options = ImageNetOptions(crop="inception", pixels=224, classes=2)
        dataset = load(options).to(device)
        for workers in (1, 8, len(os.sched_getaffinity(0)) - 1):
            yield {"workers": workers, "images_s": round(loader_rate(dataset, options, 128, 3.0, workers))}
