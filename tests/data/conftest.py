import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nfrepro.data import fashion_mnist
from nfrepro.data.checksums import Checksum


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, on a machine without any data set."""
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    monkeypatch.delenv("NFREPRO_DATA", raising=False)
    monkeypatch.setattr(fashion_mnist, "INSTALLED_FOLDER", tmp_path / "not-installed")
    return current


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def tiny_arrays() -> dict[str, np.ndarray]:
    """Fashion-MNIST in small: 5 train and 3 test images."""
    random = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": random.integers(0, 256, (5, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 9], np.uint8),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (3, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.array([2, 7, 0], np.uint8),
    }


@pytest.fixture
def put_tiny(
    tiny_arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, bare_machine: Path
) -> Callable[..., Path]:
    """Writes the small Fashion-MNIST into a folder; the checksum table is made to know it."""
    contents = {name: idx(array) for name, array in tiny_arrays.items()}
    table = {name: Checksum("sha256", hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", table)

    def put(folder: Path, compressed: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        return folder

    return put
