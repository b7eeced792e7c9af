"""Files that people write, with any content, are read quickly or give an error of one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from rec_assets_tests.random_files import KINDS

pytestmark = pytest.mark.integration

CHANGES = 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_random_changes_is_valid_or_gives_an_error_of_one_line(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "rec_assets_tests.random_files", kind, str(tmp_path), str(CHANGES)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.returncode}: {result.stderr[-3000:]}"
    assert 0 < int(result.stdout) < CHANGES / 2
