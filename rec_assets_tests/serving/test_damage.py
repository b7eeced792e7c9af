"""Damaged indexes are neither published nor loaded; workers keep serving the last undamaged one."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.experiments.experiments_file import Experiments, read_experiments
from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS, read_rules
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import COPY, CURRENT, PublishedIndex, ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import MANIFEST, IndexDamaged, IndexUnreadable, verify, write_manifest
from rec_assets.serving.index_files.self_test import self_test
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.serving.watched_file import WatchedFile
from rec_assets_tests.serving import shop

pytestmark = pytest.mark.integration

ANN = RecommendationRequest(customer_id="c00")
LATER = shop.AS_OF + dt.timedelta(days=1)


def truncate(path: Path, rng: np.random.Generator) -> None:
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def empty(path: Path, _: np.random.Generator) -> None:
    os.truncate(path, 0)


def flip_bit(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def delete(path: Path, _: np.random.Generator) -> None:
    path.unlink()


def swap(path: Path, rng: np.random.Generator) -> None:
    others = [
        each
        for each in sorted(path.parent.iterdir())
        if each.is_file() and each.read_bytes() != path.read_bytes()
    ]  # fmt: skip
    other = others[int(rng.integers(len(others)))]
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


def overwrite(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(path.stat().st_size + 1))


DAMAGES = (truncate, empty, flip_bit, delete, swap, overwrite)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], ServingRuntime]]:
    """Creates a `ServingRuntime` without background threads."""
    running = []

    def begin() -> ServingRuntime:
        runtime = ServingRuntime(
            ServingFolder(tmp_path),
            OnlineState(f"sqlite:///{tmp_path / 'o.db'}"),
            WatchedFile(None, read_rules, EMPTY_RULE_SETS),
            WatchedFile(None, read_experiments, Experiments()),
        )
        runtime.online.create()
        runtime.refresh()
        running.append(runtime)
        return runtime

    yield begin
    for runtime in running:
        runtime.online.close()


def respond(runtime: ServingRuntime) -> list[str]:
    assert runtime.engine is not None
    return [each.product_id for each in runtime.engine.respond(ANN, frozenset()).items]


def publish_next(folder: Path, index: Index) -> PublishedIndex:
    serving = ServingFolder(folder)
    published = serving.add(2, LATER, replace(index, metadata={**index.metadata, "version": "2"}).save)
    serving.make_current(published)
    return published


def test_any_damage_to_a_file_of_an_index_is_detected(index: Index, tmp_path: Path) -> None:
    undamaged, rng = tmp_path / "undamaged", np.random.default_rng(11)
    index.save(undamaged)
    files = sorted(
        path.relative_to(undamaged) for path in undamaged.rglob("*") if path.is_file() and path.stat().st_size
    )
    assert verify(undamaged)
    for number in range(270):
        damaged, damage = tmp_path / "damaged", DAMAGES[number % len(DAMAGES)]
        shutil.copytree(undamaged, damaged)
        name = files[int(rng.integers(len(files)))]
        damage(damaged / name, rng)
        with pytest.raises(IndexUnreadable):
            Index.load(damaged)
            pytest.fail(f"{damage.__name__} of {name} was not detected")
        shutil.rmtree(damaged)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["ranker.ubj", "histories/product.npy", "snapshot/same_basket.indices.npy", MANIFEST])
def test_running_and_starting_workers_serve_the_previous_index_if_the_current_one_is_damaged(
    name: str,
    damage: Callable[[Path, np.random.Generator], None],
    index: Index,
    tmp_path: Path,
    start: Callable[[], ServingRuntime],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rec_assets.serving.index_loader.RETRY_SECONDS", 0.0)
    good = shop.publish(tmp_path, index)
    running = start()
    before = respond(running)
    bad = publish_next(tmp_path, index)
    damage(bad.path / name, np.random.default_rng(3))
    with caplog.at_level(logging.ERROR, "rec_assets"):
        for _ in range(5):
            running.refresh()
    assert len(caplog.records) == 1, "one line per problem, not per refresh"
    for runtime in (running, start()):
        assert runtime.engine is not None and runtime.engine.published == good
        assert respond(runtime) == before
        assert "index" not in runtime.missing()
        warning = runtime.warnings()["index"]
        assert f"serving the older index {good.path.name}" in warning and bad.path.name in warning


def test_damage_to_the_files_of_a_loaded_index_changes_no_response(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    published = shop.publish(tmp_path, index)
    runtime = start()
    before = respond(runtime)
    for path in [each for each in published.path.rglob("*") if each.is_file()]:
        os.truncate(path, 0)
    runtime.engine.use_rules(runtime.rules.value)  # type: ignore[union-attr]  # empties the caches
    assert respond(runtime) == before
    shutil.rmtree(published.path)
    runtime.refresh()
    assert respond(runtime) == before


def test_a_worker_that_starts_without_a_loadable_index_reports_the_reason(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    shutil.rmtree(shop.publish(tmp_path, index).path)
    assert "the folder is missing" in start().missing()["index"]


@pytest.mark.parametrize(
    "content",
    [None, "", '{"version": 1', "[]", '{"version": "1", "as_of": "2026-02-28", "path": "indexes/x"}',
     '{"version": 1, "as_of": 7, "path": "indexes/x"}', '{"version": 1, "as_of": "2026-02-28", "path": "../away"}',
     '{"version": 1, "as_of": "2026-02-28", "path": "indexes/.."}', '{"version": 1, "as_of": "2026-02-28"}', "\0" * 40],
)  # fmt: skip
def test_a_damaged_pointer_file_is_reported_and_its_copy_is_used(
    content: str | None, index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    good = shop.publish(tmp_path, index)
    running = start()
    if content is None:
        (tmp_path / CURRENT).unlink()
    else:
        (tmp_path / CURRENT).write_text(content)
    running.refresh()
    for runtime in (running, start()):
        assert runtime.engine is not None and runtime.engine.published == good
        assert CURRENT in runtime.warnings()["current.json"]
    (tmp_path / COPY).write_text("")
    running.refresh()
    assert running.engine is not None and running.engine.published == good
    assert "current.json" in start().missing()["index"]
    ServingFolder(tmp_path).make_current(good)
    running.refresh()
    assert running.warnings() == {}


def test_a_rolled_back_index_is_no_fallback(index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]) -> None:
    good = shop.publish(tmp_path, index)
    publish_next(tmp_path, index)
    ServingFolder(tmp_path).make_current(good)  # a rollback
    os.truncate(good.path / "ranker.ubj", 0)
    assert start().engine is None


def test_a_damaged_index_of_an_experiment_affects_only_that_experiment(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    serving = ServingFolder(tmp_path)
    good = shop.publish(tmp_path, index)
    other = serving.add(2, shop.AS_OF, index.save)
    serving.make_current(good, {"challenger": other})
    os.truncate(other.path / "ranker.ubj", 0)
    runtime = start()
    assert (
        runtime.engine is not None
        and runtime.indexes.experiment_engines == {}
        and set(runtime.warnings()) == {"index of challenger"}
    )


def test_a_damaged_index_is_not_published(index: Index, tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)

    def write(folder: Path) -> None:
        index.save(folder)
        flip_bit(folder / "snapshot" / "price.npy", np.random.default_rng(1))

    with pytest.raises(IndexDamaged, match=r"the SHA-256 of snapshot/price.npy"):
        serving.add(1, shop.AS_OF, write)
    assert list((tmp_path / "indexes").iterdir()) == []


@pytest.mark.self_test
def test_an_undamaged_index_that_fails_its_self_test_is_skipped(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = shop.publish(tmp_path, index)
    runtime = start()
    bad = publish_next(tmp_path, index)
    # It matches its manifest, but XGBoost can't read it.
    (bad.path / "ranker.ubj").write_bytes(b"{L\x7f\xff\xff\xff\xff\xff\xff\xff")
    write_manifest(bad.path)
    runtime.refresh()
    assert runtime.engine is not None and runtime.engine.published == good
    assert bad.path.name in runtime.warnings()["index"]


def test_a_crash_of_the_self_test_process_is_reported(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.save(tmp_path / "index")
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nkill -ABRT $$\n")
    stub.chmod(0o755)
    monkeypatch.setattr("rec_assets.serving.index_files.self_test.sys.executable", str(stub))
    with pytest.raises(IndexUnreadable, match="died of SIGABRT"):
        self_test(tmp_path / "index")


@pytest.mark.parametrize("versions", [(1, 1, 1, 1), (1, 2, 3, 4, 5)], ids=["one version", "several"])
def test_the_last_undamaged_index_stays_after_any_number_of_damaged_ones(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], versions: tuple[int, ...]
) -> None:
    undamaged = shop.publish(tmp_path, index, versions[0])
    for version in versions[1:]:
        published = shop.publish(tmp_path, index, version)
        os.truncate(published.path / "ranker.ubj", 0)
    runtime = start()
    assert runtime.engine is not None and runtime.engine.published == undamaged


def test_the_pointer_file_names_previous_indexes(index: Index, tmp_path: Path) -> None:
    first, second = shop.publish(tmp_path, index), publish_next(tmp_path, index)
    pointers = ServingFolder(tmp_path).pointers()
    assert (pointers.current, pointers.previous, pointers.damage) == (second, (first,), "")
    assert json.loads((tmp_path / CURRENT).read_text()) == json.loads((tmp_path / COPY).read_text())


def test_a_watched_file_is_refreshed_during_the_self_test_of_an_index(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(tmp_path, index)
    runtime, path = start(), tmp_path / "file"
    path.write_text("old")
    file = WatchedFile(path, lambda found: str(found and found.read_text()), "")
    runtime._files["file"] = file
    started, may_end = threading.Event(), threading.Event()

    def slow_self_test(_: Path) -> None:
        started.set()
        may_end.wait(30)

    monkeypatch.setattr("rec_assets.serving.index_loader.self_test", slow_self_test)
    runtime.start()
    try:
        publish_next(tmp_path, index)
        assert started.wait(30)
        path.write_text("newer")
        deadline = time.monotonic() + 30
        while file.value == "old" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert file.value == "newer" and not may_end.is_set()
    finally:
        may_end.set()
        runtime.stop()


def test_an_index_that_no_experiment_uses_is_freed(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    first, serving = shop.publish(tmp_path, index), ServingFolder(tmp_path)
    second = serving.add(2, LATER, index.save)
    serving.make_current(first, {"candidate": second})
    runtime = start()
    runtime.refresh()
    engine = weakref.ref(runtime.indexes.experiment_engines["candidate"])
    serving.make_current(first, {})
    runtime.refresh()
    assert engine() is None
