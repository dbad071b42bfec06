"""Results of dry runs, in results/.dry-run/<experiment>/<scale>/: a file per shape, device, threads and versions."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nfrepro import atomic
from nfrepro.cost.estimates import DeviceType
from nfrepro.errors import InputError
from nfrepro.runs.provenance import versions
from nfrepro.specs import Run, identity
from nfrepro.tasks.work import Work

FOLDER = ".dry-run"

# memory: it does not fit; slow: the time limit was reached before any measurement.
Status = Literal["measured", "memory", "not finite", "slow", "failed"]


@dataclass(frozen=True)
class Device:
    """The device that a measurement was made on."""

    type: DeviceType
    name: str  # of the GPU or the processor
    threads: int


@dataclass(frozen=True)
class Measurement:
    """The result of a shape's dry run. Rates are training images per second."""

    shape: str  # its key
    label: str
    device: Device
    finished: str
    status: Status
    text: str = ""  # what went wrong
    batch_size: int | None = None
    rows: int | None = None  # images of a batch that were used
    model_rate: float | None = None  # without the loader
    loader_rate: float | None = None  # the loader alone; None if the data were missing
    joint_rate: float | None = None  # both in turn, as in training; None if the data were missing
    peak_bytes: int | None = None  # of the images in the network at once, and all weights
    total_bytes: int | None = None  # of the device
    work: Work | None = None

    @property
    def rate(self) -> float | None:
        """Training images per second, with the loader if it was measured."""
        return self.joint_rate or self.model_rate

    @property
    def how(self) -> str:
        """The way it was measured: `measured with 4 rows of 1,024`."""
        part = "" if self.rows == self.batch_size else f" with {self.rows:,} rows of {self.batch_size:,}"
        return f"measured{part}{'' if self.joint_rate else ', on random images'}"


def keep(measurement: Measurement, results: Path, run: Run) -> Path:
    """Writes the measurement of the shape of `run`, replacing an earlier one of the same kind."""
    folder = results / FOLDER / run.experiment / run.scale
    folder.mkdir(parents=True, exist_ok=True)
    content = asdict(measurement) | {"versions": versions()}
    label = re.sub(r"[^\w.=-]+", "-", measurement.label)[:80]
    path = folder / f"{label}-{measurement.shape}-{_place(measurement.device)}.json"
    atomic.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def find(results: Path, shape: str, device: DeviceType, name: str | None, threads: int) -> Measurement | None:
    """The newest measurement of a shape by any experiment, with the current versions; None if there is none.

    It was made on the device called `name`, or on any if that is None; on a CPU, with the same number of threads.
    Raises `InputError` for a damaged file.
    """
    found = [_read(path) for path in (results / FOLDER).glob(f"*/*/*-{shape}-*.json")]
    fitting = [
        measurement
        for measurement, made_with in found
        if made_with == versions()
        and measurement.device.type == device
        and name in (None, measurement.device.name)
        and (device == "cuda" or measurement.device.threads == threads)
    ]
    return max(fitting, key=lambda measurement: measurement.finished, default=None)


def _place(device: Device) -> str:
    return identity("dry-run", {**asdict(device), **versions()})[:8]


def _read(path: Path) -> tuple[Measurement, dict[str, Any]]:
    try:
        content = json.loads(atomic.read_text(path))
        made_with = dict(content.pop("versions"))
        content["device"] = Device(**content["device"])
        content["work"] = content["work"] and Work(**content["work"])
        return Measurement(**content), made_with
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a valid measurement: remove it, and repeat the dry run: {error}") from None
