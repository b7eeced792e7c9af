"""Files that are read again when they change."""

import os
from pathlib import Path

import pytest

from rec_assets.serving import watched_file as module
from rec_assets.serving.watched_file import WatchedFile


def read(path: Path | None) -> dict[str, str]:
    """Read a list of file names and the contents of these files."""
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


def test_a_changed_file_and_changed_included_files_are_read_again(tmp_path: Path) -> None:
    main, included = tmp_path / "main", tmp_path / "one"
    write(included, "1")
    write(main, "one")
    watched = watch(main)
    assert watched.value == {"one": "1"} and not watched.refresh()
    write(included, "2")
    assert watched.refresh() and watched.value == {"one": "2"} and not watched.refresh()
    write(main, "")
    assert watched.refresh() and watched.value == {}
    write(included, "3")
    assert not watched.refresh()


def test_an_unreadable_file_keeps_the_last_content_and_is_retried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    main = tmp_path / "main"
    write(main, "")
    watched = watch(main)
    write(main, "late")
    for _ in range(3):
        assert not watched.refresh() and watched.value == {} and "late" in str(watched.problem)
    assert caplog.text.count("the last version without errors stays active") == len(caplog.text.splitlines()) == 1
    write(tmp_path / "late", "here")  # not known as an included file yet
    assert watched.refresh() and watched.value == {"late": "here"} and not watched.refresh() and watched.problem is None


def test_an_unchanged_unreadable_file_is_not_read_at_every_refresh(tmp_path: Path) -> None:
    reads = []

    def fail_after_first(path: Path | None) -> str:
        reads.append(path)
        if len(reads) > 1:
            raise ValueError("broken")
        return ""

    main = tmp_path / "main"
    write(main, "good")
    watched = WatchedFile(main, fail_after_first, {})
    write(main, "bad")
    for _ in range(3):
        watched.refresh()
    assert len(reads) == 2
    write(main, "worse")
    watched.refresh()
    assert len(reads) == 3


def test_an_unexpected_error_keeps_the_last_content_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)

    def lookup(path: Path | None) -> str:
        assert path is not None
        return {"good": "value"}[path.read_text()]

    main = tmp_path / "main"
    write(main, "good")
    watched = WatchedFile(main, lookup, {})
    write(main, "bad")
    for _ in range(3):
        assert not watched.refresh() and watched.value == "value"
    assert watched.problem == f"{main}: KeyError: 'bad'" and caplog.text.count("Traceback") == 1
    write(main, "good")
    assert watched.refresh() and watched.problem is None


def test_without_a_file_the_default_content_is_used() -> None:
    watched = watch(None)
    assert watched.value == {} and not watched.refresh()


def test_a_file_that_is_unreadable_at_first_is_used_once_it_is_valid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "main", "gone")
    watched = watch(tmp_path / "main")
    assert watched.value == {} and not watched.is_read and "gone" in str(watched.problem)
    assert not watched.refresh() and caplog.text.count("the API uses nothing of it until the error is fixed") == 1
    write(tmp_path / "main", "")
    assert watched.refresh() and watched.is_read and watched.problem is None
