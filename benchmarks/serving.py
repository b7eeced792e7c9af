"""`python -m benchmarks.serving`: the API under load, compared with MLflow's server on the same artifact.

Latency: an open load sends each request when it is due, without waiting for earlier responses, and measures from the
due time. Throughput: eight clients send the next request as soon as they have a response.
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

from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.settings import get_settings

RESULTS = Path(__file__).with_name("results") / "serving.csv"

RATE, SECONDS = 200, 60
"""Requests per second of the open load, and its duration."""

CLIENTS, THROUGHPUT_SECONDS = 8, 15

MIXES = {
    "without clicks": {"list": 0.90, "similar": 0.10},
    "with clicks": {"list": 0.70, "session": 0.10, "event and list": 0.10, "similar": 0.10},
}
"""Shares of requests: the list of a known customer; similar products; a visitor with three clicks in the request; a
click of a known customer and then their list. After a click, the customer's next list needs a new ranking."""

Send = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Client:
    """Sends requests about the customers and products of an index."""

    http: aiohttp.ClientSession
    address: str
    customers: list[str]
    products: list[str]
    rng: random.Random

    async def get(self, path: str) -> None:
        async with self.http.get(f"{self.address}{path}") as response:
            await response.read()
            response.raise_for_status()

    async def post(self, path: str, body: dict[str, Any]) -> None:
        async with self.http.post(f"{self.address}{path}", json=body) as response:
            await response.read()
            response.raise_for_status()

    async def list(self) -> None:
        await self.get(f"/v1/customers/{self.rng.choice(self.customers)}/recommendations?k=10")

    async def session(self) -> None:
        clicks = [{"type": "click", "product_id": self.rng.choice(self.products)} for _ in range(3)]
        await self.post("/v1/recommendations", {"events": clicks, "k": 10})

    async def event(self) -> None:
        click = {"event_id": uuid.uuid4().hex, "type": "click", "product_id": self.rng.choice(self.products)}
        await self.post("/v1/events", {"events": [{**click, "customer_id": self.rng.choice(self.customers)}]})

    async def similar(self) -> None:
        await self.get(f"/v1/products/{self.rng.choice(self.products)}/similar?k=10")

    async def invoke(self) -> None:
        frame = {"columns": ["customer_id", "k", "list"], "data": [[self.rng.choice(self.customers), 10, "all"]]}
        await self.post("/invocations", {"dataframe_split": frame})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the API and MLflow's server with the published index of REC_HOME."""
    settings = get_settings()
    published = ServingFolder(settings.serving).current()
    if published is None:
        raise click.ClickException(f"no index is published in {settings.serving}: run `make demo` first")
    index = Index.load(published.path)
    customers = [each.decode() for each in index.histories.customers]
    click.echo(f"{len(customers):,} customers, {len(index.snapshot):,} products", err=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        with api(Path(folder), published.path) as (address, key, process):
            products = index.snapshot.product_ids.tolist()
            headers = {"X-API-Key": key}
            lists = asyncio.run(_throughput(address, headers, customers, products, "list"))
            new_rankings = asyncio.run(_throughput(address, headers, customers, products, "session"))
            for name, mix in MIXES.items():
                click.echo(f"{RATE} requests per second for {SECONDS} s: {name}", err=True)
                rows += asyncio.run(_load(address, headers, customers, products, name, mix))
            rows.append({"work": "throughput, list", **lists})
            rows.append({"work": "throughput, new ranking", **new_rankings})
            memory = _memory_mb(process)
        with api(Path(folder) / "two", published.path, workers=2) as (address, key, process):
            found = asyncio.run(_load(address, {"X-API-Key": key}, customers, products, f"{name}, 2 workers", mix))
        rows = [{"system": "rec_assets", **row, "memory_mb": memory} for row in [*found, *rows]]
        with mlflow_server(Path(folder), published.path) as (address, process):
            mlflow_lists = asyncio.run(_throughput(address, {}, customers, products, "invoke"))
            memory = _memory_mb(process)
            rows.append(
                {"system": "mlflow models serve", "work": "throughput, list", **mlflow_lists, "memory_mb": memory}
            )
    for row in rows[-3:]:
        row["times_mlflow"] = round(row["per_second"] / mlflow_lists["per_second"], 1)
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
    rng, errors = random.Random(load), dict.fromkeys(mix, 0)
    times: dict[str, list[float]] = {name: [] for name in mix}

    async def timed(name: str, due: float, steps: Sequence[Send]) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            for send in steps:
                await send()
        except aiohttp.ClientError:
            errors[name] += 1
        times[name].append(1000 * (time.perf_counter() - due) / len(steps))

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        client = Client(http, address, customers, products, rng)
        steps = {
            "list": [client.list],
            "session": [client.session],
            "event and list": [client.event, client.list],
            "similar": [client.similar],
        }
        for name in mix:  # warm up connections and caches
            await steps[name][0]()
        start = time.perf_counter() + 1
        names = rng.choices(list(mix), list(mix.values()), k=RATE * SECONDS)
        # A pair of requests takes two slots, so that RATE counts requests.
        due, pending = start, []
        for name in names:
            pending.append(timed(name, due, steps[name]))
            due += len(steps[name]) / RATE
            if due > start + SECONDS:
                break
        await asyncio.gather(*pending)
    all_times = [time for each in times.values() for time in each]
    parts = [(name, times[name], errors[name]) for name in mix]
    return [{"work": f"{load}: {part}", "per_second": RATE if part == "all" else "", **_summary(values, failed)}
            for part, values, failed in [("all", all_times, sum(errors.values())), *parts]]  # fmt: skip


async def _throughput(
    address: str, headers: dict[str, str], customers: list[str], products: list[str], method: str
) -> dict[str, Any]:
    times: list[float] = []
    async with aiohttp.ClientSession(headers=headers) as http:
        client = Client(http, address, customers, products, random.Random(method))
        send: Send = getattr(client, method)
        await send()
        end = time.perf_counter() + THROUGHPUT_SECONDS

        async def send_repeatedly() -> None:
            while (started := time.perf_counter()) < end:
                await send()
                times.append(1000 * (time.perf_counter() - started))

        await asyncio.gather(*(send_repeatedly() for _ in range(CLIENTS)))
    return {"per_second": round(len(times) / THROUGHPUT_SECONDS, 1), **_summary(times, 0)}


def _summary(times: list[float], errors: int) -> dict[str, Any]:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(2)
    return {"requests": len(times), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "errors": errors}


@contextmanager
def api(folder: Path, index: Path, workers: int = 1) -> Iterator[tuple[str, str, psutil.Process]]:
    """Run the API on an index, with a new online state: address, key, process."""
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
    """Run `mlflow models serve` on the same index: address, process."""
    import mlflow

    from rec_assets.serving import pyfunc

    model = folder / "model"
    mlflow.pyfunc.save_model(model, python_model=pyfunc.__file__, artifacts={"index": str(index)})
    port = _free_port()
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", str(model), "--port", str(port)]
    # One worker and one thread for math, like the API. It searches for uvicorn on the PATH.
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
        asyncio.run(_wait_until_ready(f"{address}{path}"))
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


async def _wait_until_ready(address: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(address) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() > deadline:
                raise click.ClickException(f"{address} does not respond")
            await asyncio.sleep(0.2)


def _memory_mb(process: psutil.Process) -> float:
    """Unique memory of the largest process: the cost of one more worker."""
    family = [process, *process.children(recursive=True)]
    return round(max(each.memory_full_info().uss for each in family) / 1e6, 1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
