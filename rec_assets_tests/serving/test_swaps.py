"""New indexes under load, with two real workers: undamaged and damaged ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from rec_assets.serving.index_files.folder import PublishedIndex, ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_process import ApiProcess
from rec_assets_tests.serving.test_damage import DAMAGES, delete, empty, flip_bit, truncate

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SWAPS, CORRUPTIONS = 50, 270


@dataclass
class Load:
    """Responses of the API under load: model versions, and errors."""

    versions: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    (tmp_path / "serving").mkdir()
    running = ApiProcess(tmp_path, f"sqlite:///{tmp_path / 'serving' / 'online.db'}")
    running.add_key("read")
    yield running
    running.kill()


@pytest.fixture
def publish(index: Index, tmp_path: Path) -> Callable[..., PublishedIndex]:
    """Publish an index with its version in all titles, optionally damaged."""
    serving = ServingFolder(tmp_path / "serving")

    def publish(version: int, damage: Callable[[Path], None] = lambda _: None) -> PublishedIndex:
        titles = np.array([f"{title} of {version}" for title in index.snapshot.titles], dtype=object)
        metadata = {**index.metadata, "version": str(version)}
        marked = replace(index, snapshot=replace(index.snapshot, titles=titles), metadata=metadata)
        published = serving.add(version, shop.AS_OF, marked.save)
        damage(published.path)
        serving.make_current(published)
        return published

    return publish


@contextmanager
def load(api: ApiProcess) -> Iterator[Load]:
    """Two clients: stored lists and new rankings. A response that mixes versions is an error."""
    found, stop = Load(), threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            number += 1
            time.sleep(0.02)
            clicks = [{"type": "click", "product_id": shop.product(number % shop.PRODUCTS)}] if number % 2 else []
            status, response = api.ask("POST", "/v1/recommendations", {"customer_id": "c00", "k": 5, "events": clicks})
            if status != 200:
                found.errors.append(f"{status}: {response}")
                continue
            version, titles = response["model_version"], [item["title"] for item in response["items"]]
            found.versions.add(version)
            if len(titles) != 5 or not all(title.endswith(f" of {version}") for title in titles):
                found.errors.append(f"{version}: {titles}")

    clients = [threading.Thread(target=ask, args=(number * 1000,)) for number in range(2)]
    for each in clients:
        each.start()
    try:
        yield found
    finally:
        stop.set()
        for each in clients:
            each.join()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def workers_of(api: ApiProcess) -> set[int]:
    return {each.pid for each in psutil.Process(api.process.pid).children() if "spawn_main" in " ".join(each.cmdline())}


def test_new_indexes_under_load_cause_no_error_and_no_mixed_response(
    api: ApiProcess, publish: Callable[..., PublishedIndex]
) -> None:
    publish(1)
    api.start()
    api.wait_for("/health/ready", 200)
    with load(api) as found:
        for version in range(2, SWAPS + 2):
            publish(version)
            wait_until(lambda version=version: version in found.versions)  # type: ignore[misc]
    assert found.errors == []
    assert found.versions == set(range(1, SWAPS + 2))
    assert "Traceback" not in (api.home / "api.log").read_text()


def test_damaged_indexes_crash_no_worker_and_change_no_response(
    api: ApiProcess, publish: Callable[..., PublishedIndex]
) -> None:
    publish(1)
    api.start()
    api.wait_for("/health/ready", 200)
    before, rng = workers_of(api), np.random.default_rng(17)
    assert len(before) == 2
    unreported = []
    with load(api) as found:
        for number in range(CORRUPTIONS):

            def damage(folder: Path, number: int = number) -> None:
                files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
                DAMAGES[number % len(DAMAGES)](files[int(rng.integers(len(files)))], rng)

            published = publish(number + 2, damage)
            time.sleep(0.7)  # each worker refreshes twice a second
            status, health = api.ask("GET", "/health/ready")
            if status != 200 or published.path.name not in health["warnings"].get("index", ""):
                unreported.append((number, status, health))
        assert found.versions == {1}
        publish(CORRUPTIONS + 2)
        wait_until(lambda: CORRUPTIONS + 2 in found.versions)
    assert found.errors == []
    assert found.versions == {1, CORRUPTIONS + 2}
    assert workers_of(api) == before
    assert len(unreported) < CORRUPTIONS // 20, unreported  # a late worker still reports the index before
    wait_until(lambda: all(health["warnings"] == {} for _, health in api.ask_all("GET", "/health/ready")))
    assert api.wait_for("/health/ready", 200)["warnings"] == {}
    log = (api.home / "api.log").read_text()
    assert "Traceback" not in log
    assert log.count("ERROR") <= 2 * CORRUPTIONS + 2  # one line per index and worker


@pytest.mark.parametrize("damage", [truncate, empty, flip_bit, delete])
def test_a_worker_that_starts_with_a_damaged_index_serves_the_previous_one(
    damage: Callable[[Path, np.random.Generator], None], api: ApiProcess, publish: Callable[..., PublishedIndex]
) -> None:
    rng = np.random.default_rng(3)
    publish(1)
    publish(2, lambda folder: damage(folder / "ranker.ubj", rng))
    api.start()
    health = api.wait_for("/health/ready", 200)
    assert (health["model_version"], list(health["warnings"])) == (1, ["index"])
    assert "ranker.ubj" in health["warnings"]["index"]
