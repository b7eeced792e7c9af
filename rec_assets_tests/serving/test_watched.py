"""Files that are read again when they change."""

import os
from pathlib import Path

import pytest

from rec_assets.serving.watched import WatchedFile


def read(path: Path | None) -> dict[str, str]:
    """Names of files, a line each, with their contents."""
    if path is None:
        return {}
    try:
        return {name: (path.parent / name).read_text() for name in path.read_text().split()}
    except OSError as error:
        raise ValueError(str(error)) from None


def watch(path: Path | None) -> WatchedFile[dict[str, str]]:
    return WatchedFile(path, read, lambda found: [path.parent / name for name in found] if path else [])


def write(path: Path, text: str) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9,) * 2)


def test_what_changes_is_read_again_and_what_stands_beside_it_too(tmp_path: Path) -> None:
    main, beside = tmp_path / "main", tmp_path / "one"
    write(beside, "1")
    write(main, "one")
    watched = watch(main)
    assert watched.value == {"one": "1"} and not watched.look()
    write(beside, "2")
    assert watched.look() and watched.value == {"one": "2"} and not watched.look()
    write(main, "")
    assert watched.look() and watched.value == {}
    write(beside, "3")
    assert not watched.look()


def test_what_can_t_be_read_leaves_what_was_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main = tmp_path / "main"
    write(main, "")
    watched = watch(main)
    write(main, "late")
    for _ in range(3):
        assert not watched.look() and watched.value == {}
    assert caplog.text.count("can't be used") == 1
    write(tmp_path / "late", "here")  # which nobody had told to watch
    assert watched.look() and watched.value == {"late": "here"} and not watched.look()


def test_without_a_file_there_is_nothing_to_see() -> None:
    watched = watch(None)
    assert watched.value == {} and not watched.look()


def test_a_first_file_that_can_t_be_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "main", "gone")
    with pytest.raises(ValueError, match="gone"):
        watch(tmp_path / "main")
