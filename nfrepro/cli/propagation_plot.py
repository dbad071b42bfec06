"""Signal propagation plots of any network: measure, predict, store and draw (`nfrepro spp`)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nfrepro import atomic
from nfrepro.data.probe_batch import folder_batch, gaussian_batch
from nfrepro.errors import InputError
from nfrepro.malloc import keep_freed_memory
from nfrepro.models.description import describe
from nfrepro.models.lookup import NamedNetwork
from nfrepro.options import Options
from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.style import save_figure
from nfrepro.seeding import stream_seed
from nfrepro.signal import long_form, predict, propagation

CHANNELS = 3
MAPS = "[N, C, H, W]"  # the layout that needs no remark


@dataclass(frozen=True)
class Source:
    """The source of a batch of images."""

    folder: Path | None  # None: Gaussian noise
    pixels: int
    batch: int

    def __str__(self) -> str:
        what = "N(0, 1) noise" if self.folder is None else f"images of {self.folder}"
        return f"{what}, {self.pixels} px, batch {self.batch}"

    def batch_of(self, seed: int) -> Tensor:
        """A batch, float32 [batch, 3, pixels, pixels]."""
        if self.folder is None:
            return gaussian_batch(self.batch, CHANNELS, self.pixels, seed)
        return folder_batch(self.folder, self.batch, self.pixels, seed)


def parse_input(text: str, pixels: int, batch: int) -> Source:
    """The source that `gaussian` or `images:DIR` names. Raises `InputError` for other texts."""
    kind, _, folder = text.partition(":")
    if text == "gaussian":
        return Source(None, pixels, batch)
    if kind == "images" and folder:
        if not Path(folder).is_dir():
            raise InputError(f"--input {text}: {folder} is not a folder")
        return Source(Path(folder), pixels, batch)
    raise InputError(f"--input {text}: expected gaussian or images:DIR")


def check_output(out: Path, force: bool) -> None:
    """Raises `InputError` if a file would be replaced without `force`, or has no folder."""
    if not out.name:
        raise InputError(f"--out {out}: a folder, not the front of a file's name: {out / 'spp'}, for example")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: {out.parent} is not a folder")
    for suffix in (".csv", ".png", ".svg"):
        path = out.with_name(out.name + suffix)
        if path.exists() and not force:
            raise InputError(f"{path} already exists: replace it with --force, or name another --out")


@dataclass(frozen=True)
class Measured:
    """Curves of networks, and remarks on their blocks."""

    curves: pd.DataFrame  # long form of all networks, seeds and blocks
    remarks: tuple[str, ...]  # lines on layouts other than [N, C, H, W], and on silent branches


def measure(
    networks: Sequence[NamedNetwork],
    source: Source,
    seeds: int,
    blocks: str | None,
    advance: Callable[[int], None],
    unit_gains: bool = False,
) -> Measured:
    """Measures all networks at all seeds; calls `advance(1)` after each network and seed.

    With `unit_gains`, gains that start near zero are set to 1.
    """
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        raise InputError(f"name each network once: {', '.join(names)}")
    keep_freed_memory()
    tables, remarks = [], []
    for network in networks:
        predicted = None if unit_gains else prediction(network.options, source)
        for seed in range(seeds):
            torch.manual_seed(stream_seed("weights", seed))
            x = source.batch_of(seed).to(memory_format=torch.channels_last)
            measured = _measure(network, x, blocks, unit_gains)
            tables.append(long_form(measured, predicted, network.name, seed))
            advance(1)
        if len(set(measured.attrs["layouts"]) | {MAPS}) > 1:
            remarks.append(_layout_line(network.name, measured.attrs["layouts"]))
        if silent := measured.attrs["silent"]:
            remarks.append(_silent_line(network.name, silent, len(measured), unit_gains))
    return Measured(pd.concat(tables, ignore_index=True), tuple(remarks))


def _layout_line(name: str, layouts: Sequence[str]) -> str:
    """One line on the layouts in which a network's activations were read."""
    counts = Counter(layouts).most_common()
    return f"{name}: activations were read as " + ", ".join(f"{layout} in {count} blocks" for layout, count in counts)


def _silent_line(name: str, silent: Sequence[str], blocks: int, unit_gains: bool) -> str:
    """One line on the branches of a network that add next to nothing, and on the option that shows them."""
    verb = "is" if len(silent) == 1 else "are"
    remedy = "its weights, not its gains, are near zero" if unit_gains else "--unit-gains shows them with gains of 1"
    return (
        f"{name}: {len(silent)} of {blocks} residual branches {verb} silent (they add less than a millionth of the "
        f"variance; first: {silent[0] or 'the model itself'}); {remedy}"
    )


def _measure(network: NamedNetwork, x: Tensor, blocks: str | None, unit_gains: bool) -> pd.DataFrame:
    """The measured curves. Raises `InputError` if the network cannot be built or take `x`, whatever it raises."""
    try:
        model = network.make()
        if not isinstance(model, torch.nn.Module):
            raise InputError(f"it makes a {type(model).__name__}, not a torch.nn.Module")
        model = model.to(memory_format=torch.channels_last)
        return propagation(model, x, blocks=blocks, with_unit_gains=unit_gains)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].replace("blocks=", "--blocks ").strip()
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise InputError(f"{network.name}, images {list(x.shape)}: {name}{reason}") from None


def prediction(options: Options | None, source: Source) -> pd.DataFrame | None:
    """The theory's curves for white noise; None if there are none for this network or these images."""
    if options is None or source.folder is not None:
        return None
    try:
        return predict(describe(options, in_channels=CHANNELS, pixels=source.pixels))
    except InputError:
        return None


def write(curves: pd.DataFrame, source: Source, out: Path, logarithmic: bool) -> list[Path]:
    """Writes `out`.csv, .png and .svg, and returns their paths."""
    table = out.with_name(f"{out.name}.csv")
    atomic.write_text(table, curves.to_csv(index=False, lineterminator="\n"))
    by_network = {str(name): rows for name, rows in curves.groupby("network", sort=False)}
    seeds = curves["seed"].nunique()
    note = f"at initialisation, {source}; line: mean of {seeds} seed{'' if seeds == 1 else 's'}, band: their range"
    title = "Signal propagation: " + ", ".join(by_network)
    return [
        table,
        *save_figure(draw_propagation(by_network, title, note, logarithmic=logarithmic), out, (".png", ".svg")),
    ]
