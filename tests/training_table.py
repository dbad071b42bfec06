"""A made-up table of training runs, as `collect` writes it."""

from collections.abc import Sequence

import pandas as pd


def training_table(batches: Sequence[int] = (4, 64), seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """Two networks at each batch size; top-1 is 70, or 60 for BN, plus the seed; all runs are completed."""
    rows = [
        {
            "id": f"{network}-{batch}-{seed}",
            "state": "completed",
            "in_experiment": True,
            "seed": seed,
            "data.name": "fashion_mnist",
            "data.train_images": 4000,
            "model.name": network,
            "model.order": "bn_relu_conv" if network == "bn_resnet" else None,
            "model.width": 0.25,
            "train.epochs": 2,
            "train.batch_size": batch,
            "train.precision": "float32",
            "top1": (60.0 if network == "bn_resnet" else 70.0) + seed,
            "provenance.data": "Fashion-MNIST",
            "provenance.data_fingerprint": "abc",
        }
        for batch in batches
        for network in ("nf_resnet", "bn_resnet")
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def without_result(table: pd.DataFrame, name: str, state: str) -> pd.DataFrame:
    """The run `name` did not complete, but ended in `state`."""
    changed = table.copy()
    changed.loc[changed["id"] == name, ["state", "top1"]] = [state, None]
    return changed
