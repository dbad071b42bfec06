from pathlib import Path

import pytest
from small_study import Study, build


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return build(tmp_path)
