"""New indexes under load, with two real workers: whole ones again and again, and damaged ones."""

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

from rec_assets.serving.folder import Published, ServingFolder
from rec_assets.serving.index import Index
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_process import ApiProcess
from rec_assets_tests.serving.test_damage import DAMAGES, cut, delete, empty, flip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SWAPS, CORRUPTIONS = 50, 270


@dataclass
class Load:
    """What the API answered to callers who ask all the time."""

    seen: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    (tmp_path / "serving").mkdir()
    running = ApiProcess(tmp_path, f"sqlite:///{tmp_path / 'serving' / 'online.db'}")
    running.add_key("read")
    yield running
    running.kill()


@pytest.fixture
def publish(index: Index, tmp_path: Path) -> Callable[..., Published]:
    """Publish an index that has its version in all titles, damaged before anybody sees it if wanted."""
    serving = ServingFolder(tmp_path / "serving")

    def publish(version: int, damage: Callable[[Path], None] = lambda _: None) -> Published:
        titles = np.array([f"{title} of {version}" for title in index.state.titles], dtype=object)
        about = {**index.about, "version": str(version)}
        marked = replace(index, state=replace(index.state, titles=titles), about=about)
        published = serving.add(version, shop.AS_OF, marked.save)
        damage(published.path)
        serving.point(published)
        return published

    return publish


@contextmanager
def load(api: ApiProcess) -> Iterator[Load]:
    """Two callers: stored lists, and rankings made anew. An answer is of one version, wholly, or it is wrong."""
    found, stop = Load(), threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            number += 1
            time.sleep(0.02)
            clicks = [{"type": "click", "product_id": shop.product(number % shop.PRODUCTS)}] if number % 2 else []
            status, answer = api.ask("POST", "/v1/recommendations", {"customer_id": "c00", "k": 5, "events": clicks})
            if status != 200:
                found.wrong.append(f"{status}: {answer}")
                continue
            version, titles = answer["model_version"], [item["title"] for item in answer["items"]]
            found.seen.add(version)
            if len(titles) != 5 or not all(title.endswith(f" of {version}") for title in titles):
                found.wrong.append(f"{version}: {titles}")

    callers = [threading.Thread(target=ask, args=(number * 1000,)) for number in range(2)]
    for each in callers:
        each.start()
    try:
        yield found
    finally:
        stop.set()
        for each in callers:
            each.join()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def workers_of(api: ApiProcess) -> set[int]:
    return {each.pid for each in psutil.Process(api.process.pid).children() if "spawn_main" in " ".join(each.cmdline())}


def test_fifty_swaps_give_no_mixed_answer_and_no_error(api: ApiProcess, publish: Callable[..., Published]) -> None:
    publish(1)
    api.start()
    api.wait_for("/health/ready", 200)
    with load(api) as found:
        for version in range(2, SWAPS + 2):
            publish(version)
            wait_until(lambda version=version: version in found.seen)  # type: ignore[misc]
    assert found.wrong == []
    assert found.seen == set(range(1, SWAPS + 2))
    assert "Traceback" not in (api.home / "api.log").read_text()


def test_damaged_indexes_kill_no_worker_and_change_no_answer(
    api: ApiProcess, publish: Callable[..., Published]
) -> None:
    publish(1)
    api.start()
    api.wait_for("/health/ready", 200)
    before, chance = workers_of(api), np.random.default_rng(17)
    assert len(before) == 2
    silent = []
    with load(api) as found:
        for number in range(CORRUPTIONS):

            def damage(folder: Path, number: int = number) -> None:
                files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
                DAMAGES[number % len(DAMAGES)](files[int(chance.integers(len(files)))], chance)

            published = publish(number + 2, damage)
            time.sleep(0.7)  # each worker looks twice a second
            status, health = api.ask("GET", "/health/ready")
            if status != 200 or published.path.name not in health["warnings"].get("index", ""):
                silent.append((number, status, health))
        assert found.seen == {1}
        publish(CORRUPTIONS + 2)
        wait_until(lambda: CORRUPTIONS + 2 in found.seen)
    assert found.wrong == []
    assert found.seen == {1, CORRUPTIONS + 2}
    assert workers_of(api) == before
    assert len(silent) < CORRUPTIONS // 20, silent  # a worker may be late; what it says then is of the index before
    wait_until(lambda: all(health["warnings"] == {} for _, health in api.ask_all("GET", "/health/ready")))
    assert api.wait_for("/health/ready", 200)["warnings"] == {}
    log = (api.home / "api.log").read_text()
    assert "Traceback" not in log
    assert log.count("ERROR") <= 2 * CORRUPTIONS + 2  # a line a change and worker


@pytest.mark.parametrize("damage", [cut, empty, flip, delete])
def test_a_start_on_a_damaged_index_answers_from_the_one_before(
    damage: Callable[[Path, np.random.Generator], None], api: ApiProcess, publish: Callable[..., Published]
) -> None:
    chance = np.random.default_rng(3)
    publish(1)
    publish(2, lambda folder: damage(folder / "ranker.ubj", chance))
    api.start()
    health = api.wait_for("/health/ready", 200)
    assert (health["model_version"], list(health["warnings"])) == (1, ["index"])
    assert "ranker.ubj" in health["warnings"]["index"]
