"""Whatever stands in a file that people write, it is read quickly or refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from rec_assets_tests.random_files import KINDS

CHANGES = 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_random_changes_is_used_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "rec_assets_tests.random_files", kind, str(tmp_path), str(CHANGES)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, f"{found.returncode}: {found.stderr[-3000:]}"
    assert 0 < int(found.stdout) < CHANGES / 2
