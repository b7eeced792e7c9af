"""`python -m benchmarks.serving`: the API under load, and MLflow's own server on the same artifact in the same run.

Load is open: requests are sent when they are due, whether earlier ones were answered or not, and an answer's time
counts from when its request was due. Throughput is what eight callers get who ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio
import csv
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import numpy as np
import psutil

from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.index import Index
from rec_assets.settings import get_settings

RESULTS = Path(__file__).with_name("results") / "serving.csv"

RATE, SECONDS = 200, 60
"""Requests a second of the open load, and how long it lasts."""

CALLERS, THROUGHPUT_SECONDS = 8, 15

MIXES = {
    "before anybody clicks": {"list": 0.90, "similar": 0.10},
    "everybody clicks": {"list": 0.70, "session": 0.10, "event and list": 0.10, "similar": 0.10},
}
"""Shares of the open loads: a known customer's list; products like one; a visitor with three clicks in the request; a
click by a known customer, followed by their list. After a click a list is made anew, by whoever asks first."""

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Caller:
    """Asks the API about what is in an index."""

    http: aiohttp.ClientSession
    address: str
    customers: list[str]
    products: list[str]
    chance: random.Random

    async def get(self, path: str) -> None:
        async with self.http.get(f"{self.address}{path}") as answer:
            await answer.read()
            answer.raise_for_status()

    async def post(self, path: str, body: dict[str, Any]) -> None:
        async with self.http.post(f"{self.address}{path}", json=body) as answer:
            await answer.read()
            answer.raise_for_status()

    async def list(self) -> None:
        await self.get(f"/v1/customers/{self.chance.choice(self.customers)}/recommendations?k=10")

    async def session(self) -> None:
        clicks = [{"type": "click", "product_id": self.chance.choice(self.products)} for _ in range(3)]
        await self.post("/v1/recommendations", {"events": clicks, "k": 10})

    async def event(self) -> None:
        click = {"event_id": uuid.uuid4().hex, "type": "click", "product_id": self.chance.choice(self.products)}
        await self.post("/v1/events", {"events": [{**click, "customer_id": self.chance.choice(self.customers)}]})

    async def similar(self) -> None:
        await self.get(f"/v1/products/{self.chance.choice(self.products)}/similar?k=10")

    async def invoke(self) -> None:
        frame = {"columns": ["customer_id", "k", "list"], "data": [[self.chance.choice(self.customers), 10, "all"]]}
        await self.post("/invocations", {"dataframe_split": frame})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the API and MLflow's server on the published index of REC_HOME."""
    settings = get_settings()
    published = ServingFolder(settings.serving).current()
    if published is None:
        raise click.ClickException(f"no index is published in {settings.serving}: run `make demo` first")
    index = Index.load(published.path)
    customers = [each.decode() for each in index.histories.customers]
    about = f"{len(customers):,} customers, {len(index.state):,} products"
    click.echo(about, err=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        with api(Path(folder), published.path) as (address, key, process):
            products = index.state.product_ids.tolist()
            headers = {"X-API-Key": key}
            ours = asyncio.run(_throughput(address, headers, customers, products, "list"))
            anew = asyncio.run(_throughput(address, headers, customers, products, "session"))
            for name, mix in MIXES.items():
                click.echo(f"{RATE} requests a second for {SECONDS} s: {name}", err=True)
                rows += asyncio.run(_load(address, headers, customers, products, name, mix))
            rows.append({"work": "throughput, list", **ours})
            rows.append({"work": "throughput, ranking made anew", **anew})
            memory = _memory_mb(process)
        with api(Path(folder) / "two", published.path, workers=2) as (address, key, process):
            found = asyncio.run(_load(address, {"X-API-Key": key}, customers, products, f"{name}, 2 workers", mix))
        rows = [{"system": "rec_assets", **row, "memory_mb": memory} for row in [*found, *rows]]
        with mlflow_server(Path(folder), published.path) as (address, process):
            theirs = asyncio.run(_throughput(address, {}, customers, products, "invoke"))
            memory = _memory_mb(process)
            rows.append({"system": "mlflow models serve", "work": "throughput, list", **theirs, "memory_mb": memory})
    for row in rows[-3:]:
        row["times_mlflow"] = round(row["per_second"] / theirs["per_second"], 1)
    columns = ("system", "work", "requests", "per_second", "p50_ms", "p95_ms", "p99_ms", "errors", "memory_mb",
               "times_mlflow")  # fmt: skip
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    click.echo(RESULTS.read_text())


async def _load(
    address: str, headers: dict[str, str], customers: list[str], products: list[str], load: str, mix: dict[str, float]
) -> list[dict[str, Any]]:
    chance, errors = random.Random(load), dict.fromkeys(mix, 0)
    times: dict[str, list[float]] = {name: [] for name in mix}

    async def timed(name: str, due: float, asks: Sequence[Ask]) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            for ask in asks:
                await ask()
        except aiohttp.ClientError:
            errors[name] += 1
        times[name].append(1000 * (time.perf_counter() - due) / len(asks))

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        caller = Caller(http, address, customers, products, chance)
        asks = {
            "list": [caller.list],
            "session": [caller.session],
            "event and list": [caller.event, caller.list],
            "similar": [caller.similar],
        }
        for name in mix:  # connections and caches of a server that has been up for a while
            await asks[name][0]()
        start = time.perf_counter() + 1
        names = chance.choices(list(mix), list(mix.values()), k=RATE * SECONDS)
        # A pair takes two places in the queue, so that the rate is one of requests.
        due, waiting = start, []
        for name in names:
            waiting.append(timed(name, due, asks[name]))
            due += len(asks[name]) / RATE
            if due > start + SECONDS:
                break
        await asyncio.gather(*waiting)
    every = [time for each in times.values() for time in each]
    parts = [(name, times[name], errors[name]) for name in mix]
    return [{"work": f"{load}: {part}", "per_second": RATE if part == "all" else "", **_summary(values, wrong)}
            for part, values, wrong in [("all", every, sum(errors.values())), *parts]]  # fmt: skip


async def _throughput(
    address: str, headers: dict[str, str], customers: list[str], products: list[str], what: str
) -> dict[str, Any]:
    times: list[float] = []
    async with aiohttp.ClientSession(headers=headers) as http:
        caller = Caller(http, address, customers, products, random.Random(what))
        ask: Ask = getattr(caller, what)
        await ask()
        end = time.perf_counter() + THROUGHPUT_SECONDS

        async def again() -> None:
            while (started := time.perf_counter()) < end:
                await ask()
                times.append(1000 * (time.perf_counter() - started))

        await asyncio.gather(*(again() for _ in range(CALLERS)))
    return {"per_second": round(len(times) / THROUGHPUT_SECONDS, 1), **_summary(times, 0)}


def _summary(times: list[float], errors: int) -> dict[str, Any]:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(2)
    return {"requests": len(times), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "errors": errors}


@contextmanager
def api(folder: Path, index: Path, workers: int = 1) -> Iterator[tuple[str, str, psutil.Process]]:
    """Our server on an index, with a state of its own: address, key, process."""
    (folder / "serving" / "indexes").mkdir(parents=True)
    (folder / "serving" / "indexes" / index.name).symlink_to(index)
    version, *day = index.name.split("-")[:4]
    current = f'{{"version": {version}, "as_of": "{"-".join(day)}", "path": "indexes/{index.name}"}}'
    (folder / "serving" / "current.json").write_text(current)
    port = _free_port()
    environment = {**os.environ, "REC_HOME": str(folder), "REC_API__PORT": str(port), "REC_API__BURST": "1000000",
                   "REC_API__REQUESTS_PER_SECOND": "1000000", "REC_API__WORKERS": str(workers)}  # fmt: skip
    command = [sys.executable, "-m", "rec_assets.cli"]
    key = subprocess.run(
        [*command, "keys", "add", "bench", "--scope", "read", "--scope", "events"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    with _running([*command, "serve"], environment, f"http://127.0.0.1:{port}", "/health/ready") as process:
        yield f"http://127.0.0.1:{port}", key, process


@contextmanager
def mlflow_server(folder: Path, index: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`mlflow models serve` on the same index: address, process."""
    import mlflow

    from rec_assets.serving import pyfunc

    model = folder / "model"
    mlflow.pyfunc.save_model(model, python_model=pyfunc.__file__, artifacts={"index": str(index)})
    port = _free_port()
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", str(model), "--port", str(port)]
    # One worker, as ours; its sums with one thread, as ours. It looks for uvicorn on the PATH.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with _running(
        [*command, "--env-manager", "local", "--workers", "1"], environment, f"http://127.0.0.1:{port}", "/ping"
    ) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def _running(command: list[str], environment: dict[str, str], address: str, path: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        asyncio.run(_answers(f"{address}{path}"))
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


async def _answers(address: str, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(address) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() > deadline:
                raise click.ClickException(f"{address} doesn't answer")
            await asyncio.sleep(0.2)


def _memory_mb(process: psutil.Process) -> float:
    """Unique memory of the process that works the hardest: what one more worker takes."""
    family = [process, *process.children(recursive=True)]
    return round(max(each.memory_full_info().uss for each in family) / 1e6, 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
