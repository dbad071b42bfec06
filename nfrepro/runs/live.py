"""Live TensorBoard: rows added to metrics.jsonl while a run trains are also added to an event file.

The event file is a copy of metrics.jsonl: a continued run writes it again from there.
"""

import os
from pathlib import Path

from nfrepro.runs.export import EventFile, metrics_with_steps, optional
from nfrepro.specs import Run

VARIABLE = "NFREPRO_TENSORBOARD"  # a folder; processes that execute runs inherit it


def show_live(target: Path) -> None:
    """Make runs of this process and its children write below `target`. Raises `InputError` without tensorboard."""
    optional("tensorboard.summary.writer.event_file_writer", "tensorboard")
    os.environ[VARIABLE] = str(target.absolute())


class LiveEvents:
    """The event file of one run; does nothing unless the environment names a folder."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder, self.written = run, folder, 0
        self.events: EventFile | None = None

    def update(self) -> None:
        """Add the new rows of metrics.jsonl."""
        target = os.environ.get(VARIABLE)
        rows = metrics_with_steps(self.folder) if target else []
        if target is None or len(rows) == self.written:
            return
        if self.events is None:
            self.events = EventFile(Path(target) / self.run.id)
            self.events.add_options(self.run.id, self.run.config)
        for row in rows[self.written :]:
            self.events.add(row)
        self.written = len(rows)
        self.events.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self.events is not None:
            self.events.close()
