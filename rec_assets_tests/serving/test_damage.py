"""Damaged indexes: none is published, none is taken, and the last good one goes on answering."""

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

from rec_assets.recsys.rules.spec import NO_RULES, read_rules
from rec_assets.serving.folder import COPY, CURRENT, Published, ServingFolder
from rec_assets.serving.index import Index
from rec_assets.serving.manifest import MANIFEST, IndexDamaged, IndexUnreadable, check, seal
from rec_assets.serving.online import OnlineState
from rec_assets.serving.responder import RecommendationRequest
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.serving.self_test import self_test
from rec_assets.serving.watched import WatchedFile
from rec_assets_tests.serving import shop

ANN = RecommendationRequest(customer_id="c00")
LATER = shop.AS_OF + dt.timedelta(days=1)


def cut(path: Path, chance: np.random.Generator) -> None:
    os.truncate(path, int(chance.integers(path.stat().st_size)))


def empty(path: Path, _: np.random.Generator) -> None:
    os.truncate(path, 0)


def flip(path: Path, chance: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(chance.integers(len(content)))] ^= 1 << int(chance.integers(8))
    path.write_bytes(content)


def delete(path: Path, _: np.random.Generator) -> None:
    path.unlink()


def swap(path: Path, chance: np.random.Generator) -> None:
    others = [
        each
        for each in sorted(path.parent.iterdir())
        if each.is_file() and each.read_bytes() != path.read_bytes()
    ]  # fmt: skip
    other = others[int(chance.integers(len(others)))]
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


def garble(path: Path, chance: np.random.Generator) -> None:
    path.write_bytes(chance.bytes(path.stat().st_size + 1))


DAMAGES = (cut, empty, flip, delete, swap, garble)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], ServingRuntime]]:
    """A worker's `ServingRuntime` on the folder, which looks when the test says so."""
    running = []

    def begin() -> ServingRuntime:
        live = ServingRuntime(
            ServingFolder(tmp_path),
            OnlineState(f"sqlite:///{tmp_path / 'o.db'}"),
            WatchedFile(None, read_rules, NO_RULES),
        )
        live.online.create()
        live.look()
        running.append(live)
        return live

    yield begin
    for live in running:
        live.online.close()


def answer_of(live: ServingRuntime) -> list[str]:
    assert live.engine is not None
    return [each.product_id for each in live.engine.answer(ANN, frozenset()).entries]


def publish_next(folder: Path, index: Index) -> Published:
    serving = ServingFolder(folder)
    published = serving.add(2, LATER, replace(index, about={**index.about, "version": "2"}).save)
    serving.point(published)
    return published


def test_no_damage_to_any_file_of_an_index_goes_unseen(index: Index, tmp_path: Path) -> None:
    whole, chance = tmp_path / "whole", np.random.default_rng(11)
    index.save(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    assert check(whole)
    for number in range(270):
        damaged, damage = tmp_path / "damaged", DAMAGES[number % len(DAMAGES)]
        shutil.copytree(whole, damaged)
        name = files[int(chance.integers(len(files)))]
        damage(damaged / name, chance)
        with pytest.raises(IndexUnreadable):
            Index.load(damaged)
            pytest.fail(f"{damage.__name__} of {name} was not seen")
        shutil.rmtree(damaged)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["ranker.ubj", "histories/product.npy", "state/same_basket.indices.npy", MANIFEST])
def test_a_damaged_index_leaves_the_last_good_one_answering_in_workers_that_run_and_that_start(
    name: str,
    damage: Callable[[Path, np.random.Generator], None],
    index: Index,
    tmp_path: Path,
    start: Callable[[], ServingRuntime],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rec_assets.serving.runtime._AGAIN_SECONDS", 0.0)
    good = shop.publish(tmp_path, index)
    running = start()
    before = answer_of(running)
    bad = publish_next(tmp_path, index)
    damage(bad.path / name, np.random.default_rng(3))
    with caplog.at_level(logging.ERROR, "rec_assets"):
        for _ in range(5):
            running.look()
    assert len(caplog.records) == 1, "one line a change, not one a look"
    for live in (running, start()):
        assert live.engine is not None and live.engine.published == good
        assert answer_of(live) == before
        assert "index" not in live.ready()
        said = live.warnings()["index"]
        assert f"answers are from {good.path.name}" in said and bad.path.name in said


def test_what_happens_to_files_in_use_changes_no_answer(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    published = shop.publish(tmp_path, index)
    live = start()
    before = answer_of(live)
    for path in [each for each in published.path.rglob("*") if each.is_file()]:
        os.truncate(path, 0)
    live.engine.keep_to(live.rules.value)  # type: ignore[union-attr]  # lets go of answers kept
    assert answer_of(live) == before
    shutil.rmtree(published.path)
    live.look()
    assert answer_of(live) == before


def test_an_index_that_a_restart_can_not_take_is_not_ready_and_says_why(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    shutil.rmtree(shop.publish(tmp_path, index).path)
    assert "the folder is gone" in start().ready()["index"]


@pytest.mark.parametrize(
    "content",
    [None, "", '{"version": 1', "[]", '{"version": "1", "as_of": "2026-02-28", "path": "indexes/x"}',
     '{"version": 1, "as_of": 7, "path": "indexes/x"}', '{"version": 1, "as_of": "2026-02-28", "path": "../away"}',
     '{"version": 1, "as_of": "2026-02-28", "path": "indexes/.."}', '{"version": 1, "as_of": "2026-02-28"}', "\0" * 40],
)  # fmt: skip
def test_a_damaged_pointer_is_said_and_its_copy_counts(
    content: str | None, index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    good = shop.publish(tmp_path, index)
    running = start()
    if content is None:
        (tmp_path / CURRENT).unlink()
    else:
        (tmp_path / CURRENT).write_text(content)
    running.look()
    for live in (running, start()):
        assert live.engine is not None and live.engine.published == good
        assert CURRENT in live.warnings()["current.json"]
    (tmp_path / COPY).write_text("")
    running.look()
    assert running.engine is not None and running.engine.published == good
    assert "current.json" in start().ready()["index"]
    ServingFolder(tmp_path).point(good)
    running.look()
    assert running.warnings() == {}


def test_an_index_taken_back_is_nothing_to_fall_back_to(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    good = shop.publish(tmp_path, index)
    publish_next(tmp_path, index)
    ServingFolder(tmp_path).point(good)  # a rollback
    os.truncate(good.path / "ranker.ubj", 0)
    assert start().engine is None


def test_an_experiment_s_damaged_index_stops_that_experiment_only(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    serving = ServingFolder(tmp_path)
    good = shop.publish(tmp_path, index)
    other = serving.add(2, shop.AS_OF, index.save)
    serving.point(good, {"challenger": other})
    os.truncate(other.path / "ranker.ubj", 0)
    live = start()
    assert live.engine is not None and live.others == {} and set(live.warnings()) == {"index of challenger"}


def test_a_damaged_index_is_not_published(index: Index, tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)

    def write(folder: Path) -> None:
        index.save(folder)
        flip(folder / "state" / "price.npy", np.random.default_rng(1))

    with pytest.raises(IndexDamaged, match=r"the SHA-256 of state/price.npy"):
        serving.add(1, shop.AS_OF, write)
    assert list((tmp_path / "indexes").iterdir()) == []


@pytest.mark.trial
def test_an_index_that_fails_its_trial_is_refused_though_its_files_are_whole(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = shop.publish(tmp_path, index)
    live = start()
    bad = publish_next(tmp_path, index)
    # Whole by its manifest, and XGBoost refuses it.
    (bad.path / "ranker.ubj").write_bytes(b"{L\x7f\xff\xff\xff\xff\xff\xff\xff")
    seal(bad.path)
    began = time.monotonic()
    live.look()
    assert live.engine is not None and live.engine.published == good and time.monotonic() > began
    assert bad.path.name in live.warnings()["index"]


def test_a_process_that_dies_of_an_index_is_a_reason_to_refuse_it(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.save(tmp_path / "index")
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nkill -ABRT $$\n")
    stub.chmod(0o755)
    monkeypatch.setattr("rec_assets.serving.self_test.sys.executable", str(stub))
    with pytest.raises(IndexUnreadable, match="died of SIGABRT"):
        self_test(tmp_path / "index")


@pytest.mark.parametrize("versions", [(1, 1, 1, 1), (1, 2, 3, 4, 5)], ids=["one version", "several"])
def test_however_many_damaged_ones_came_after_it_the_last_whole_index_stays(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], versions: tuple[int, ...]
) -> None:
    whole = shop.publish(tmp_path, index, versions[0])
    for version in versions[1:]:
        published = shop.publish(tmp_path, index, version)
        os.truncate(published.path / "ranker.ubj", 0)
    live = start()
    assert live.engine is not None and live.engine.published == whole


def test_the_pointer_names_what_counted_before(index: Index, tmp_path: Path) -> None:
    first, second = shop.publish(tmp_path, index), publish_next(tmp_path, index)
    pointed = ServingFolder(tmp_path).pointed()
    assert (pointed.current, pointed.before, pointed.damage) == (second, (first,), "")
    assert json.loads((tmp_path / CURRENT).read_text()) == json.loads((tmp_path / COPY).read_text())


def test_a_file_is_read_again_while_an_index_is_being_tried(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(tmp_path, index)
    live, path = start(), tmp_path / "words"
    path.write_text("old")
    words = WatchedFile(path, lambda found: str(found and found.read_text()), "")
    live.watch("words", words)
    is_tried, may_end = threading.Event(), threading.Event()

    def try_long(_: Path) -> None:
        is_tried.set()
        may_end.wait(30)

    monkeypatch.setattr("rec_assets.serving.runtime.self_test", try_long)
    live.start()
    try:
        publish_next(tmp_path, index)
        assert is_tried.wait(30)
        path.write_text("newer")
        deadline = time.monotonic() + 30
        while words.value == "old" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert words.value == "newer" and not may_end.is_set()
    finally:
        may_end.set()
        live.stop()


def test_an_index_that_nothing_asks_for_any_more_is_let_go(
    index: Index, tmp_path: Path, start: Callable[[], ServingRuntime]
) -> None:
    first, serving = shop.publish(tmp_path, index), ServingFolder(tmp_path)
    second = serving.add(2, LATER, index.save)
    serving.point(first, {"candidate": second})
    live = start()
    live.look()
    held = weakref.ref(live.others["candidate"])
    serving.point(first, {})
    live.look()
    assert held() is None
