"""Files that are read again when they change."""

import os
from pathlib import Path

import pytest

from rec_assets.serving import watched as module
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
    return WatchedFile(path, read, {}, lambda found: [path.parent / name for name in found] if path else [])


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
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    main = tmp_path / "main"
    write(main, "")
    watched = watch(main)
    write(main, "late")
    for _ in range(3):
        assert not watched.look() and watched.value == {} and "late" in str(watched.problem)
    assert caplog.text.count("what the file said before goes on") == len(caplog.text.splitlines()) == 1
    write(tmp_path / "late", "here")  # which nobody had told to watch
    assert watched.look() and watched.value == {"late": "here"} and not watched.look() and watched.problem is None


def test_what_can_t_be_read_is_not_read_at_every_look(tmp_path: Path) -> None:
    reads = []

    def reads_once(path: Path | None) -> str:
        reads.append(path)
        if len(reads) > 1:
            raise ValueError("broken")
        return ""

    main = tmp_path / "main"
    write(main, "good")
    watched = WatchedFile(main, reads_once, {})
    write(main, "bad")
    for _ in range(3):
        watched.look()
    assert len(reads) == 2
    write(main, "worse")
    watched.look()
    assert len(reads) == 3


def test_a_reader_that_fails_leaves_what_was_and_its_trace_stands_in_the_log_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)

    def lookup(path: Path | None) -> str:
        assert path is not None
        return {"good": "value"}[path.read_text()]

    main = tmp_path / "main"
    write(main, "good")
    watched = WatchedFile(main, lookup, {})
    write(main, "bad")
    for _ in range(3):
        assert not watched.look() and watched.value == "value"
    assert watched.problem == f"{main}: KeyError: 'bad'" and caplog.text.count("Traceback") == 1
    write(main, "good")
    assert watched.look() and watched.problem is None


def test_without_a_file_there_is_nothing_to_see() -> None:
    watched = watch(None)
    assert watched.value == {} and not watched.look()


def test_a_first_file_that_can_t_be_read_counts_once_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "main", "gone")
    watched = watch(tmp_path / "main")
    assert watched.value == {} and not watched.is_read and "gone" in str(watched.problem)
    assert not watched.look() and caplog.text.count("nothing of it counts before it is right") == 1
    write(tmp_path / "main", "")
    assert watched.look() and watched.is_read and watched.problem is None
