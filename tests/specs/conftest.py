"""Small schemas that stand for the tasks' own, and a folder of experiments to write files into."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from nfrepro.errors import InputError
from nfrepro.options import Options, TaskOptions
from nfrepro.specs import Run, expand, load_experiment


class FreeResnet(Options):
    name: Literal["nf_resnet"]
    depth: int = 50
    alpha: float = 0.2
    blocks: list[int] = Field(default_factory=list)
    activation: Literal["relu", "silu"] = "relu"
    gain: float = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def fill_gain(cls, data: Any) -> Any:
        if isinstance(data, dict) and "gain" not in data:
            return {**data, "gain": {"relu": 1.7, "silu": 1.8}.get(str(data.get("activation", "relu")), -1.0)}
        return data

    @model_validator(mode="after")
    def check_alpha(self) -> "FreeResnet":
        if self.alpha == 13:
            raise ValueError("alpha 13 brings\nbad luck")
        return self


class BatchResnet(Options):
    name: Literal["bn_resnet"]
    depth: int = 50
    momentum: float = Field(default=0.1, gt=0, le=1)


class Clipping(Options):
    threshold: float = 0.01


class Train(Options):
    lr: float = Field(default=0.1, gt=0)
    epochs: int
    batch_size: int = 256
    nesterov: bool = False
    decay: float | Literal["auto"] = "auto"
    clipping: Clipping | None = None


class TrainOptions(TaskOptions):
    model: Annotated[FreeResnet | BatchResnet, Field(discriminator="name")]
    train: Train
    extra: dict[str, float] = Field(default_factory=dict)

    def label(self) -> str:
        return f"{self.model.name}-seed{self.seed}"


@pytest.fixture
def schemas() -> dict[str, type[TaskOptions]]:
    return {"train": TrainOptions, "probe": TaskOptions}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a file below experiments/; the working directory is its parent, as it is in a checkout."""
    monkeypatch.chdir(tmp_path)
    Path("experiments/recipes").mkdir(parents=True)

    def write_file(text: str | bytes, name: str = "x.yaml") -> Path:
        path = Path("experiments") / name
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        return path

    return write_file


@pytest.fixture
def runs(write: Callable[..., Path], schemas: dict[str, type[TaskOptions]]) -> Callable[..., list[Run]]:
    """Writes x.yaml and expands it."""

    def expand_text(text: str | bytes, *overrides: str, scale: str = "full") -> list[Run]:
        write(text)
        return expand(load_experiment("x", Path("experiments")), scale, schemas, overrides)

    return expand_text


@pytest.fixture
def message(runs: Callable[..., list[Run]]) -> Callable[..., str]:
    """The one line that writing and expanding x.yaml is refused with."""

    def refused(text: str | bytes, *overrides: str, scale: str = "full") -> str:
        with pytest.raises(InputError) as caught:
            runs(text, *overrides, scale=scale)
        line = str(caught.value)
        assert line.isprintable()
        return line

    return refused
