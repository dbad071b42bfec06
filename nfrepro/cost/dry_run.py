"""The dry run of a shape: a few real steps in a separate process, so that a failure affects this shape only."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nfrepro.cost.estimates import DeviceType, image_bytes, rows_at_once
from nfrepro.cost.measurements import Device, Measurement, Status
from nfrepro.cost.shapes import Shape
from nfrepro.launch.local_workers import worker_environment
from nfrepro.runs.provenance import processor
from nfrepro.tasks.work import Work

GIGABYTE = 10**9


@dataclass(frozen=True)
class Order:
    """The settings with which a shape is tried."""

    device: str  # torch's name
    threads: int
    steps: int  # timed, after one that is not
    seconds: float  # limit of the whole trial, from the start of its process

    @property
    def device_type(self) -> DeviceType:
        return "cuda" if self.device.startswith("cuda") else "cpu"


@dataclass
class Heard:
    """The messages received so far from a trial's process."""

    doing: str = "starting"
    since: float = field(default_factory=time.monotonic)
    about: dict[str, Any] = field(default_factory=dict)
    trial: dict[str, Any] | None = None  # the newest
    ended: dict[str, Any] | None = None
    code: int | None = None  # exit status; None: it was stopped at its time limit

    def hear(self, message: dict[str, Any]) -> None:
        kind = message.pop("kind")
        if kind == "doing":
            self.doing, self.since = message["text"], time.monotonic()
        elif kind == "about":
            self.about = message
        elif kind == "trial":
            self.trial = message
        else:
            self.ended = message


def try_shape(shape: Shape, order: Order, doing: Callable[[str], None]) -> Measurement:
    """Tries the first run of `shape`; reports its activity to `doing`. Never raises for errors of the trial."""
    return conclude(shape, order, _listen(shape, order, doing), time.monotonic())


def _listen(shape: Shape, order: Order, doing: Callable[[str], None]) -> Heard:
    process = subprocess.Popen(
        [sys.executable, "-m", "nfrepro.cost.dry_run_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=worker_environment(order.threads),
        start_new_session=True,  # it is killed below, with all processes that it has started
    )
    assert process.stdin is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    heard, ends = Heard(), time.monotonic() + order.seconds
    try:
        with contextlib.suppress(BrokenPipeError):  # it has died, as its exit status will show
            config = {"config": shape.runs[0].config, "code_folders": shape.runs[0].code_folders}
            process.stdin.write(json.dumps(config | vars(order)) + "\n")
            process.stdin.close()
        while (line := lines.get(timeout=max(0.0, ends - time.monotonic()))) is not None:
            heard.hear(json.loads(line))
            doing(heard.doing)
        heard.code = process.wait()
    except queue.Empty:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return heard


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def conclude(shape: Shape, order: Order, heard: Heard, now: float) -> Measurement:
    """The measurement that follows from the messages received until `now`."""
    config = shape.runs[0].config
    work = Work(**heard.about["work"]) if heard.about else None
    total, peak = heard.about.get("total_bytes"), None
    if heard.trial is not None and work is not None:
        more = 0
        if heard.trial["rows"] != config["train"]["batch_size"]:
            more = rows_at_once(config) - heard.trial["rows"]
        peak = heard.trial["peak_bytes"] + image_bytes(work, more, config["train"]["precision"])
    status, text = _verdict(heard, peak, total, now)
    return Measurement(
        shape=shape.key,
        label=shape.label,
        device=Device(order.device_type, heard.about.get("device") or processor(), order.threads),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status,
        text=text,
        batch_size=config["train"]["batch_size"],
        peak_bytes=peak,
        total_bytes=total,
        work=work,
        **_rates(heard.trial),
    )


def _verdict(heard: Heard, peak: int | None, total: int | None, now: float) -> tuple[Status, str]:
    if heard.ended is not None and heard.ended["problem"] is not None:
        return ("memory" if heard.ended["memory"] else "failed"), heard.ended["problem"]
    if heard.ended is None and heard.code is not None:
        killed = heard.code == -signal.SIGKILL
        return ("memory", "killed by the system") if killed else ("failed", f"exit status {heard.code}")
    if heard.trial is None:
        return "slow", f"too slow here: > {now - heard.since:.0f} s for {heard.doing}"
    if not heard.trial["finite"]:
        return "not finite", "the loss is not finite"
    if peak is not None and total is not None and peak > total:
        return "memory", f"needs {peak / GIGABYTE:.1f} GB of {total / GIGABYTE:.1f} GB"
    return "measured", ""


def _rates(trial: dict[str, Any] | None) -> dict[str, Any]:
    if trial is None:
        return {}
    images = trial["rows"] * trial["steps"]
    return {
        "rows": trial["rows"],
        "model_rate": images / trial["model_seconds"],
        "joint_rate": images / trial["joint_seconds"] if trial["joint_seconds"] is not None else None,
        "loader_rate": trial["loader_images_per_second"],
    }
