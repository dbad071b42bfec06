"""What is asked of runs before any of them starts, and in which order."""

from types import SimpleNamespace
from typing import Any

import pytest

from nfrepro.cli import execution
from nfrepro.errors import InputError
from nfrepro.specs import Run


def test_nothing_is_fetched_for_runs_of_which_a_later_one_cannot_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def refuse(options: dict[str, Any], processes: int) -> None:
        if options["data"]["name"] == "second":
            raise InputError("its batches do not divide")

    task = SimpleNamespace(
        options=SimpleNamespace(model_validate=lambda config: config),
        check_processes=refuse,
        prepare=lambda options, report: fetched.append(options["data"]["name"]),
    )
    monkeypatch.setattr(execution, "TASKS", {"stub": task})
    runs = [Run(name, "x", "smoke", "stub", {"data": {"name": name}}) for name in ("first", "second", "first-again")]
    with pytest.raises(InputError, match=r"^second: its batches do not divide$"):
        execution.prepare(runs)
    assert not fetched
    execution.prepare([runs[0], Run("copy", "x", "smoke", "stub", runs[0].config), runs[2]])
    assert fetched == ["first", "first-again"]  # what two runs need once
