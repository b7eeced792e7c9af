"""Random shops of all sizes, with all kinds of bad data, the same for each seed. Some can't be used."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

TIMES = {
    "iso8601": "%Y-%m-%dT%H:%M:%S",
    "%d/%m/%Y %H:%M": "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M": "%m/%d/%Y %H:%M",
    "%Y-%m-%d %H:%M:%S UTC": "%Y-%m-%d %H:%M:%S UTC",
    "unix_milliseconds": "",
    "unix_seconds": "",
}


def write_random_shop(folder: Path, seed: int, *, horizon: int = 5, valid: bool = False) -> Path:
    """Write the files and the YAML file of a shop, and return the path of the YAML file.

    Args:
        folder: Folder of the files.
        seed: Number of the shop.
        horizon: Horizon in days; most shops have enough days for it.
        valid: No bad data; only the size and the days are unusual.
    """
    shop = _Shop(random.Random(seed), horizon, valid)
    folder.mkdir(parents=True, exist_ok=True)
    shop.write(folder)
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(shop.description(), sort_keys=False), encoding="utf-8")
    return path


class _Shop:
    def __init__(self, rng: random.Random, horizon: int, valid: bool) -> None:
        self.rng = rng
        self.daily = rng.random() < 0.6
        self.format = rng.choice(["csv", "csv", "csv", "jsonl", "parquet"])
        self.nested = self.format != "csv" and rng.random() < 0.4
        self.time_format = rng.choice(list(TIMES))
        self.time_zone = rng.choice(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Tokyo"])
        self.optional = {name for name in ("order", "qty", "price", "title", "group") if rng.random() < 0.7}
        self.days = rng.choice([1, 2 * horizon, 2 * horizon + 1, 3 * horizon, 6 * horizon])
        self.customers, self.products = rng.choice([1, 2, 10, 60]), rng.choice([1, 2, 30, 300])
        self.lines_a_day = rng.choice([1, 3, 20])
        self.once = rng.random() < 0.2  # each customer buys once
        self.unique = rng.random() < 0.2  # each product is sold once
        self.closed = rng.random() < 0.3
        self.returned = rng.choice([0, 0, 0.2, 1.0])
        kinds = ["none", "no customers", "no prices", "grouped prices", "negative", "future", "bulk", "views", "twice",
                 "wrong format", "no column", "bytes", "empty", "guests"]  # fmt: skip
        self.bad_data = "none" if valid else rng.choice(kinds)
        self.first = dt.date(2024, 3, 1)

    def orders(self) -> list[dict[str, Any]]:
        """Orders with their lines."""
        rng, orders = self.rng, []
        customers = 10**6 if self.once else self.customers
        for number in range(self.days):
            day = self.first + dt.timedelta(days=number)
            if self.closed and day.weekday() == 6:
                continue
            for _ in range(rng.randint(1, self.lines_a_day)):
                product = rng.randrange(10**6 if self.unique else self.products)
                when = dt.datetime.combine(day, dt.time(rng.randint(9, 18), rng.randrange(60)))
                line = {
                    "product": f"P{product}", "title": f"Ware {product}", "group": f"G{product % 5}",
                    "qty": str(rng.choice([1, 1, 2])), "price": f"{1 + product % 50}.50",
                    "state": "refunded" if rng.random() < self.returned else "sold",
                }  # fmt: skip
                orders.append({"order": f"o{len(orders)}", "who": f"c{rng.randrange(customers)}", "when": when,
                              "lines": [line]})  # fmt: skip
        self._add_bad_data(orders)
        return orders

    def _add_bad_data(self, orders: list[dict[str, Any]]) -> None:
        rng, share = self.rng, self.rng.choice([0.02, 0.5, 1.0])
        for order in orders:
            line = order["lines"][0]
            line["kind"] = "sale"
            if rng.random() >= share:
                continue
            match self.bad_data:
                case "no customers":
                    order["who"] = ""
                case "guests":
                    order["who"] = "guest"
                case "no prices":
                    line["price"] = rng.choice(["", "0", "free", "NaN"])
                case "grouped prices":
                    line["price"] = "1,100.00"
                case "negative":
                    line["qty"] = "-1"
                case "future":
                    order["when"] = order["when"].replace(year=2071)
                case "bulk":
                    line["qty"] = str(rng.choice([5000, 10**7]))
                case "views":
                    line["kind"] = "view"
                case "twice":
                    order["lines"].append(dict(line))

    def write(self, folder: Path) -> None:
        by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for order in self.orders():
            shared = {"order": order["order"], "who": order["who"], "when": self._format_time(order["when"])}
            name = f"{order['when']:%Y-%m-%d}" if self.daily else "all"
            if self.nested:
                by_file[name].append({**shared, "lines": order["lines"]})
            else:
                by_file[name] += [{**shared, **line} for line in order["lines"]]
        for name, rows in by_file.items():
            content = self._content(rows)
            if self.bad_data in ("bytes", "empty") and self.rng.random() < 0.3:
                cut = self.rng.randrange(len(content))
                content = b"" if self.bad_data == "empty" else content[:cut] + self.rng.randbytes(20) + content[cut:]
            (folder / f"{name}.{self.format}").write_bytes(content)

    def _format_time(self, when: dt.datetime) -> str:
        if not TIMES[self.time_format]:
            moment = when.replace(tzinfo=dt.timezone.utc).timestamp()
            return str(int(moment * (1000 if "milli" in self.time_format else 1)))
        return when.strftime(TIMES[self.time_format])

    def _content(self, rows: list[dict[str, Any]]) -> bytes:
        if self.format == "jsonl":
            return "\n".join(map(json.dumps, rows)).encode()
        if self.format == "parquet":
            out = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(rows), out)
            return bytes(out.getvalue())
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def description(self) -> dict[str, Any]:
        """Content of the YAML file; it is wrong for some shops."""
        prefix = "lines." if self.nested else ""
        columns = {"customer_id": "who", "product_id": f"{prefix}product", "time": "when"}
        named = {"order": ("order_id", "order"), "qty": ("quantity", f"{prefix}qty"),
                 "price": ("unit_price", f"{prefix}price"), "title": ("title", f"{prefix}title"),
                 "group": ("category", f"{prefix}group")}  # fmt: skip
        columns.update(named[name] for name in sorted(self.optional))
        if self.bad_data == "no column":
            columns["time"] = "whence"
        wrong = self.bad_data == "wrong format"
        purchases: dict[str, Any] = {
            "path": f"{{date:%Y-%m-%d}}.{self.format}" if self.daily else f"all.{self.format}",
            "format": self.format,
            "time_format": self.rng.choice(list(TIMES)) if wrong else self.time_format,
            "columns": columns,
        }
        if self.nested:
            purchases["explode"] = "lines"
        last = self.first + dt.timedelta(days=self.days - 1)
        bounds = {} if self.daily else {"first_day": str(self.first), "last_day": str(last)}
        returns = {"status": {"column": f"{prefix}state", "values": ["refunded"]}}
        return {"time_zone": self.time_zone, **bounds, "purchases": purchases, "returns": returns}
