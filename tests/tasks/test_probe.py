"""Task `probe` against hooks, numpy and Pillow in float64."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_experiment import Call
from torch import Tensor, nn

from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import input_correlation
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import ProbeTask
from nfrepro.tasks.probe import largest_deviation, least_linearity, log_slope, run
from nfrepro.training.context import RunContext

ALPHA = 0.5
NETWORK: dict[str, Any] = {
    "name": "nf_resnet",
    "blocks": [3, 2],
    "width": 0.125,
    "alpha": ALPHA,
    "skipinit_gain": None,
}
SYNTHETIC = {"name": "synthetic", "classes": 4, "channels": 2, "pixels": 16, "train_images": 40, "test_images": 8}


def task(**changes: Any) -> ProbeTask:
    return ProbeTask.model_validate({"seed": 5, "model": NETWORK, "pixels": 32, "batch": 3, **changes})


def execute(options: ProbeTask, folder: Path) -> tuple[Outcome, pd.DataFrame]:
    folder.mkdir(exist_ok=True)
    outcome = run(options, RunContext(folder, "cpu"))
    json.dumps(outcome.final, allow_nan=False)
    return outcome, pd.read_csv(folder / "propagation.csv")


def seed_of(stream: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{stream}:{seed}".encode()).digest()[:8], "big") >> 1


def network(channels: int = 3, seed: int = 5, **options: Any) -> nn.Module:
    torch.manual_seed(seed_of("weights", seed))
    return create("nf_resnet", in_channels=channels, **{k: v for k, v in {**NETWORK, **options}.items() if k != "name"})


def noise(batch: int = 3, pixels: int = 32, seed: int = 5) -> Tensor:
    return torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(seed_of("probe", seed)))


def by_hooks(model: nn.Module, x: Tensor) -> pd.DataFrame:
    """The statistics of an NF network with branches scaled by ALPHA, from what its modules put out."""
    outputs: list[np.ndarray] = []
    branches: list[np.ndarray] = []
    for stage in model.stages:
        for block in stage:
            block.conv2.register_forward_hook(lambda _m, _i, out: branches.append(out.double().numpy() / ALPHA))
            block.register_forward_hook(lambda _m, _i, out: outputs.append(out.double().numpy()))
    with torch.no_grad():
        model.eval()(x)
    rows = []
    for out, branch in zip(outputs, branches, strict=True):
        flat = out.reshape(len(out), -1)
        cosines = [
            flat[i] @ flat[j] / (np.linalg.norm(flat[i]) * np.linalg.norm(flat[j]))
            for i in range(len(flat))
            for j in range(i)
        ]
        rows.append(
            {
                "avg_sq_mean": (out.mean((0, 2, 3)) ** 2).mean(),
                "avg_var": out.var((0, 2, 3)).mean(),
                "res_var": branch.var((0, 2, 3)).mean(),
                "input_correlation": np.mean(cosines),
            }
        )
    return pd.DataFrame(rows)


def measured(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index="block", columns="statistic", values="measured").reset_index(drop=True)


def test_numbers_and_table_equal_hooks_and_numpy(tmp_path: Path) -> None:
    outcome, table = execute(task(), tmp_path)
    expected = by_hooks(network(), noise())
    assert list(table.columns) == [
        "network",
        "seed",
        "block",
        "stage",
        "transition",
        "statistic",
        "measured",
        "predicted",
    ]
    assert len(table) == 5 * 4
    assert set(table["seed"]) == {5}
    found = measured(table)
    for statistic in expected:
        np.testing.assert_allclose(found[statistic], expected[statistic], rtol=2e-5, err_msg=statistic)
    where = table[table["statistic"] == "avg_var"]
    assert where["stage"].tolist() == [1, 1, 1, 2, 2]
    assert where["transition"].tolist() == [True, False, False, True, False]
    var, sq, res = (expected[name].to_numpy() for name in ("avg_var", "avg_sq_mean", "res_var"))
    x, y = np.arange(5.0), np.log(var)
    slope = ((x - 2) * (y - y.mean())).sum() / ((x - 2) ** 2).sum()
    straight = var[:3] - var[:3].mean()
    centred = np.array([-1.0, 0.0, 1.0])
    linearity = (centred @ straight) ** 2 / (2 * (straight @ straight))
    by_hand = {
        "res_var_min": res.min(),
        "res_var_mean": res.mean(),
        "res_var_max": res.max(),
        "sq_mean_max": sq.max(),
        "input_correlation_last": expected["input_correlation"].iloc[-1],
        "log_variance_slope": slope,
        "least_linearity": linearity,
        "end1_sq_mean": sq[2],
        "end1_var": var[2],
        "end2_sq_mean": sq[4],
        "end2_var": var[4],
        "start1_var": var[0],
        "start2_var": var[3],
    }
    predicted = table.pivot(index="block", columns="statistic", values="predicted").reset_index(drop=True)
    assert predicted["input_correlation"].isna().all()
    for statistic in ("avg_sq_mean", "avg_var", "res_var"):
        assert predicted[statistic].notna().all()
        by_hand[f"{statistic}_deviation"] = np.abs(expected[statistic] / predicted[statistic] - 1).max()
    for name, value in by_hand.items():
        assert outcome.final[name] == pytest.approx(value, rel=2e-4), name
    assert set(outcome.final) == set(by_hand)


def test_seeds(tmp_path: Path) -> None:
    for name, seed in {"one": 5, "again": 5, "other": 6}.items():
        torch.manual_seed(len(name))  # whatever the process did before
        execute(task(seed=seed), tmp_path / name)
    one, again, other = ((tmp_path / name / "propagation.csv").read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other


def test_run_twice_in_one_folder_writes_equal_bytes(tmp_path: Path) -> None:
    execute(task(), tmp_path)
    first = (tmp_path / "propagation.csv").read_bytes()
    execute(task(), tmp_path)
    assert (tmp_path / "propagation.csv").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["propagation.csv"]


def test_bfloat16_is_close_but_rounded(tmp_path: Path) -> None:
    exact = measured(execute(task(), tmp_path / "a")[1])
    rounded = measured(execute(task(precision="bfloat16"), tmp_path / "b")[1])
    for statistic in ("avg_var", "res_var"):
        np.testing.assert_allclose(rounded[statistic], exact[statistic], rtol=0.03)
        assert not np.allclose(rounded[statistic], exact[statistic], rtol=1e-5)


@pytest.mark.parametrize("pixels", [16, 32, 24], ids=["as they are", "twice", "one and a half"])
def test_real_images(tmp_path: Path, pixels: int) -> None:
    options = task(data=SYNTHETIC, pixels=pixels)
    outcome, table = execute(options, tmp_path)
    dataset = load(options.data)  # type: ignore[arg-type]
    images = dataset.train.images.double().numpy() / 255
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))  # no subset: all training images
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(seed_of("probe", 5)))[:3]
    normalised = (images[chosen.numpy()] - mean[:, None, None]) / std[:, None, None]
    resized = [
        [
            np.asarray(Image.fromarray(channel.astype(np.float32)).resize((pixels, pixels), Image.Resampling.BILINEAR))
            for channel in image
        ]
        for image in normalised
    ]
    expected = by_hooks(network(channels=2), torch.tensor(np.array(resized), dtype=torch.float32))
    found = measured(table)
    for statistic in expected:
        np.testing.assert_allclose(found[statistic], expected[statistic], rtol=1e-3, err_msg=statistic)
    # The theory is about white noise.
    assert table["predicted"].isna().all()
    assert {outcome.final[f"{name}_deviation"] for name in ("avg_sq_mean", "avg_var", "res_var")} == {None}


def test_no_prediction_where_the_theory_refuses(tmp_path: Path) -> None:
    model = {"name": "bn_resnet", "order": "v1", "blocks": [2, 1], "width": 0.125}
    outcome, table = execute(task(model=model), tmp_path)
    assert len(table) == 3 * 4
    assert table["measured"].notna().all()
    assert table["predicted"].isna().all()
    assert outcome.final["avg_var_deviation"] is None
    known = execute(task(model={**model, "order": "bn_relu_conv"}), tmp_path)[1]
    assert known.loc[known["statistic"] == "avg_var", "predicted"].notna().all()


def frame(variances: list[float], stages: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"block": range(1, len(stages) + 1), "stage": stages, "avg_var": variances})


def test_log_slope_of_hand_made_frames() -> None:
    assert log_slope(frame([2.0**k for k in range(6)], [1] * 6)) == pytest.approx(math.log(2))
    assert log_slope(frame([3.0] * 4, [1] * 4)) == pytest.approx(0.0, abs=1e-12)
    assert log_slope(frame([1.0, math.e, math.e], [1] * 3)) == pytest.approx(0.5)
    assert log_slope(frame([1.0], [1])) is None
    assert log_slope(frame([1.0, 0.0], [1, 1])) is None


def test_least_linearity_of_hand_made_frames() -> None:
    # Stage 1 is straight; in stage 2 the line through 0, 1, 0, 1 explains a fifth: R^2 = 1 / 5.
    assert least_linearity(frame([1, 2, 3, 4], [1] * 4)) == pytest.approx(1.0)
    assert least_linearity(frame([1, 2, 3, 0, 1, 0, 1], [1] * 3 + [2] * 4)) == pytest.approx(0.2)
    # Downwards is straight too; two blocks always are, and a constant has no line: neither counts.
    assert least_linearity(frame([3, 2, 1, 9, 5], [1, 1, 1, 2, 2])) == pytest.approx(1.0)
    assert least_linearity(frame([1, 2, 7, 7, 7], [1, 1, 2, 2, 2])) is None


def test_largest_deviation_of_hand_made_frames() -> None:
    predicted = pd.DataFrame({"avg_var": [1.0, 2.0, 4.0], "avg_sq_mean": [0.0, 1.0, 1.0]})
    assert largest_deviation(pd.Series([1.1, 2.0, 3.0]), predicted, "avg_var") == pytest.approx(0.25)
    assert largest_deviation(pd.Series([1.1, 2.0, 4.0]), predicted, "avg_var") == pytest.approx(0.1)
    assert largest_deviation(pd.Series([0.1, 1.0, 1.0]), predicted, "avg_sq_mean") is None
    assert largest_deviation(pd.Series([1.1, 2.0, 4.0]), None, "avg_var") is None


def test_input_correlation_by_hand() -> None:
    x = torch.zeros(3, 1, 1, 2)
    x[0, 0, 0], x[1, 0, 0], x[2, 0, 0] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([3.0, 3.0])
    assert float(input_correlation(x)) == pytest.approx(2 / 3 / math.sqrt(2), rel=1e-6)
    assert float(input_correlation(x[:2])) == pytest.approx(0.0, abs=1e-6)
    assert float(input_correlation(torch.ones(4, 2, 3, 3))) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-15, 1e15, 1e25])
def test_input_correlation_does_not_depend_on_the_scale(scale: float) -> None:
    # 1e25: an unnormalized network after some 150 blocks, whose other statistics are still finite.
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    assert float(input_correlation(x * scale)) == pytest.approx(float(input_correlation(x)), rel=1e-4)


def test_input_correlation_is_exact_in_a_bfloat16_network() -> None:
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 10
    expected = float(input_correlation(x))
    assert 0.98 < expected < 0.995
    with torch.autocast("cpu", torch.bfloat16):
        assert float(input_correlation(x)) == pytest.approx(expected, abs=1e-5)


def test_input_correlation_of_bfloat16_activations() -> None:
    x = (torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 3).bfloat16()
    assert float(input_correlation(x)) == pytest.approx(float(input_correlation(x.double())), abs=1e-5)


def test_a_batch_of_one_has_no_correlation_but_all_the_rest(tmp_path: Path) -> None:
    outcome, _ = execute(task(batch=1), tmp_path)
    assert outcome.final["input_correlation_last"] is None


OVERFLOW = {"name": "unnormalized_resnet", "blocks": [600], "width": 0.0625, "stem": "small"}


def test_an_overflow_names_the_block(tmp_path: Path) -> None:
    options = task(model=OVERFLOW, pixels=4, batch=2)
    torch.manual_seed(seed_of("weights", 5))
    model = create("unnormalized_resnet", **{k: v for k, v in OVERFLOW.items() if k != "name"})
    finite: list[bool] = []
    for block in model.stages[0]:
        block.register_forward_hook(lambda _m, _i, out: finite.append(bool(out.isfinite().all())))
    with torch.no_grad():
        model.eval()(noise(2, 4))
    first = finite.index(False) + 1
    assert 200 < first < 600
    with pytest.raises(InputError, match=rf"of block {first} \(stages\.0\.{first - 1}\) is (inf|nan)"):
        run(options, RunContext(tmp_path, "cpu"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_overflows_is_failed_and_says_where(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(
        "title: overflow\nclaims: [C06]\ntask: probe\n"
        f"set: {{pixels: 4, batch: 2, model: {json.dumps(OVERFLOW)}}}\n"
        "grid: {model.blocks: [[2], [600]]}\nscales: {smoke: {}}\n"
    )
    called = nfrepro("sweep", "tiny", "--scale", "smoke", "--jobs", "1")
    assert called.returncode == 1
    assert "Traceback" not in called.stdout + called.stderr
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    states = {record["config"]["model"]["blocks"][0]: record for record in records}
    assert states[2]["status"] == "completed"
    assert states[2]["final"]["res_var_max"] > 0
    assert states[600]["status"] == "failed"
    assert "of block " in states[600]["error"]
    assert "the signal explodes" in states[600]["error"]
    assert states[600]["final"] is None
    line = next(line for line in called.stdout.splitlines() if line.startswith("failed"))
    assert states[600]["error"] in line
    table = pd.read_csv(results / "tiny" / "smoke" / "runs.csv")
    assert sorted(table["state"]) == ["completed", "failed"]
