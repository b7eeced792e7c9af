import datetime as dt
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from upath import UPath

from rec_assets.recsys.data.cleaning import CLEANING_RULES, CleaningSettings, clean_day
from rec_assets.sources.catalog import read_catalog
from rec_assets.sources.check import SourceCheck, check_source
from rec_assets.sources.reader import read_day, read_export
from rec_assets.sources.spec import DataSource, load_data_source
from rec_assets.sources.spec_fields import (
    Attribute,
    Catalog,
    CatalogColumns,
    DeltaSource,
    EventColumns,
    EventLog,
    PurchaseColumns,
    PurchaseLog,
    ReturnSettings,
    ReturnStatus,
    SqlQuery,
)
from rec_assets_tests.shops import BEAUTY_DATA, GIFTWARE_DAYS, write_beauty_source, write_giftware_shop

DOC = Path(__file__).resolve().parents[2] / "docs" / "sources.md"

COLUMNS = "customer_id: buyer, product_id: sku, time: at, order_id: receipt, quantity: n, unit_price: price"
HEADER = "at,buyer,sku,receipt,n,price"
LINES = [f"2017-01-0{day} 10:{n:02},ann{n},A{n},{day}{n},2,1.50" for day in range(1, 6) for n in range(20)]


def check(
    folder: Path,
    lines: list[str],
    *,
    header: str = HEADER,
    columns: str = COLUMNS,
    purchases: str = "",
    rest: str = "",
    catalog: str = "",
    export: bool = False,
) -> SourceCheck:
    """Check a shop with these lines, in one file per day (their first ten characters) or in an export."""
    files: dict[str, list[str]] = {}
    for line in lines:
        files.setdefault("all" if export else line[:10], []).append(line)
    for name, content in files.items():
        (folder / f"{name}.csv").write_text("\n".join([header, *content]) + "\n", encoding="utf-8")
    if catalog:
        (folder / "products.txt").write_text(catalog, encoding="utf-8")
        rest += "\ncatalog: {path: products.txt, columns: {product_id: sku, title: name}}"
    path = "all.csv" if export else "{date:%Y-%m-%d}.csv"
    (folder / "shop.yaml").write_text(
        f"purchases: {{path: '{path}', columns: {{{columns}}}, {purchases}}}\n{rest}\n", encoding="utf-8"
    )
    return check_source(load_data_source(str(folder / "shop.yaml"), folder / "home"))


def warned(result: SourceCheck) -> str:
    return "\n".join(result.warnings)


# A valid data source


def test_a_valid_data_source_has_no_warnings(tmp_path):
    lines = [line.replace(f",A{n % 20},", f",A{(n + n // 20) % 20},") for n, line in enumerate(LINES)]
    result = check(tmp_path, lines, catalog="sku,name\n" + "".join(f"A{n},thing {n}\n" for n in range(20)))
    assert result.ok
    assert result.errors == result.warnings == []
    text = result.to_text()
    for expected in (
        "5 days with files, 2017-01-01 to 2017-01-05",
        "20 products, 0 of them excluded",
        "products of the log in the catalog: all",
        "example: 2017-01-01 10:00 → 2017-01-01 10:00 local time",
        "customer_id  ← 'buyer', example: 'ann0'",
        "unit_price   ← 'price', example: '1.50'",
        "100 lines, 20 customers, 20 products",
        "without a customer: none",
        "100 orders",
        "none: `returns` is not set",
        "with text (for text similarity): all",
        "would reject none of 100 lines",
        "This data source can be used.",
    ):
        assert expected in text


@pytest.mark.integration
def test_the_sample_is_spread_over_the_days(tmp_path):
    check(tmp_path, [f"2017-01-{day:02} 10:00,ann,A,r,1,1" for day in range(1, 30)])
    result = check_source(load_data_source(str(tmp_path / "shop.yaml"), tmp_path), days=5)
    assert "days in this sample: 2017-01-01, 2017-01-08, 2017-01-15, 2017-01-22, 2017-01-29" in result.to_text()


def test_times_are_shown_in_the_shops_time_zone(tmp_path):
    result = check(
        tmp_path,
        ["2017-01-01 11:53:26,ann,A,r,1,1"],
        purchases="naive_times: utc",
        rest="time_zone: America/New_York",
    )
    assert "2017-01-01 11:53:26 → 2017-01-01 06:53 local time" in result.to_text()
    assert "times without an offset are in UTC; days are those of America/New_York" in result.to_text()


def test_closed_days_are_listed_by_weekday(tmp_path):
    first = dt.date(2017, 1, 1)
    days = [first + dt.timedelta(days=n) for n in range(28)]
    open_days = [day for day in days if day.weekday() != 5 and day != dt.date(2017, 1, 16)]
    result = check(tmp_path, [f"{day} 10:00,ann,A,r,1,1" for day in open_days])
    assert "4 days without files (shop closed): every Saturday, 2017-01-16" in result.to_text()
    assert "no file for" not in warned(result)


def test_a_long_gap_without_files_is_a_warning(tmp_path):
    result = check(tmp_path, [LINES[0], LINES[0].replace("01-01", "02-01")])
    assert "no file for 30 days between 2017-01-01 and 2017-02-01" in warned(result)


# Errors


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([], {}, "no file matches"),
        ([], {"export": True}, "no file matches"),
        ([], {"rest": "first_day: 2017-01-01\nlast_day: 2017-12-31"}, "no file matches"),
        (LINES, {"header": "at;buyer"}, "csv: CSV parse error: Row #2: Expected 1 columns, got 6"),
        (LINES, {"header": HEADER.replace("sku", "SKU")}, "column 'sku' is missing"),
        (
            LINES,
            {"purchases": "time_format: '%d.%m.%Y'"},
            "column 'at': 20 of 20 values are not times of the format",
        ),
        (LINES, {"purchases": "format: parquet"}, "can't be read as parquet"),
        (LINES, {"catalog": "name\nx\n"}, "products.txt: column 'sku' is missing"),
        (LINES, {"rest": "catalog: {path: no.csv, columns: {product_id: a}}"}, "no catalog file matches"),
        (LINES, {"rest": "first_day: 2018-01-01"}, "none between first_day (2018-01-01)"),
        (
            LINES,
            {"rest": "first_day: 2018-01-01\nlast_day: 2018-01-31"},
            "none between first_day (2018-01-01)",
        ),
        (["soon,ann,A,r,1,1"], {"export": True}, "not ISO 8601 times"),
    ],
)
def test_an_error_is_reported_and_not_raised(tmp_path, lines, options, message):
    result = check(tmp_path, lines, **options)
    assert not result.ok
    assert message in "\n".join(result.errors)
    assert f"can't be used yet: fix {len(result.errors)} error" in result.to_text()


def test_the_error_for_no_files_lists_the_files_in_the_folder(tmp_path):
    (tmp_path / "log-2017-01-01.csv").touch()
    error = check(tmp_path, []).errors[0]
    assert f"the folder {tmp_path} has log-2017-01-01.csv, shop.yaml; fix `path`" in error


def test_a_missing_folder_is_an_error(tmp_path):
    (tmp_path / "shop.yaml").write_text(f"purchases: {{path: 'sales/2017/*.csv', columns: {{{COLUMNS}}}}}")
    error = check_source(load_data_source(str(tmp_path / "shop.yaml"), tmp_path)).errors[0]
    assert f"the folder {tmp_path / 'sales'} does not exist" in error


def test_an_unreadable_day_does_not_stop_the_check_of_other_days(tmp_path):
    check(tmp_path, LINES)
    (tmp_path / "2017-01-03.csv").write_bytes(b"")
    result = check(tmp_path, [line for line in LINES if not line.startswith("2017-01-03")])
    assert len(result.errors) == 1 and "2017-01-03.csv: the file is empty" in result.errors[0]
    assert "80 lines" in result.to_text()


def test_files_without_lines_are_an_error(tmp_path):
    (tmp_path / "2017-01-01.csv").write_text(HEADER + "\n")
    assert "the files of the sample have no lines" in check(tmp_path, []).errors[0]


# Warnings


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([f"2017-01-01,ann,A{n},{n},1,1" for n in range(9)], {}, "nearly all times are midnight: all purchases"),
        ([f"2017-01-01T00:00Z,ann,A{n},{n},1,1" for n in range(9)], {"rest": "time_zone: Asia/Tokyo"},
         "midnight in UTC, which is 09:00 in Asia/Tokyo: if they are dates, set `time_zone: UTC`"),
        (LINES, {"columns": COLUMNS.replace(", quantity: n", "")}, "`quantity` is not set: each line counts"),
        (LINES, {"columns": COLUMNS.replace(", unit_price: price", "")}, "neither `unit_price` nor `amount` is set"),
        (LINES, {}, "no product has text"),
        ([*LINES, *LINES[:9]], {}, "reject 8.3% of the lines as `duplicate_line`: did a file land twice"),
        ([*LINES, "2017-01-01 10:00,ann,A1,r,-1,1"], {}, "reject 1 line with a negative quantity"),
        ([*LINES, "2017-01-01 10:00,ann,A1,C12,1,1"], {}, "order id such as 'C12', unlike most: if"),
        ([*LINES, "2017-01-01 10:00,NULL,A1,r,1,1"], {}, "1 line with the customer_id 'NULL': if"),
        ([line.replace("2017-01-01 10", "2017-01-01 20") for line in LINES],
         {"purchases": "naive_times: utc", "rest": "time_zone: Asia/Tokyo"}, "each file has a UTC day: set"),
        ([line if n % 4 else line.replace(" 10", " ??") for n, line in enumerate(LINES)], {},
         "reject 25.0% of the lines (25% of the value) as `invalid_time`"),
        ([f"2017-01-01 10:0{n % 9},ann{n},A,one,1,1" for n in range(9)], {}, "1 of 1 order id belong to"),
        ([f"2017-01-01 10:00,{n}.0,A,{n},1,1" for n in range(9)], {}, "ids end in '.0', such as '0.0'"),
        (LINES, {"catalog": "sku,name\nA1,one\n"}, "95.0% of the products are not in the catalog"),
        ([f"2017-01-01 10:00,ann,{n},r,1,1" for n in range(1, 9)],
         {"catalog": "sku,name\n" + "".join(f"00{n},x\n" for n in range(1, 9))},
         "8 product ids of the log and the catalog differ only by leading zeros, such as '1' and '001'"),
        (["2017-01-01 10:00,ann,a1,r,1,1"], {"catalog": "sku,name\nA1,x\n"}, "differ only by capital letters"),
        ([line + ",KÃ¤se" for line in LINES],
         {"header": HEADER + ",name", "columns": COLUMNS + ", title: name"},
         "set `encoding: utf-8`"),
        (["20,ann,A,r,1,1", "30,ann,B,r,1,1"], {"export": True, "purchases": "time_format: unix_seconds"},
         "the times are between 1970-01-01 and 1970-01-01: check `time_format`"),
    ],
)  # fmt: skip
def test_a_likely_mistake_is_a_warning(tmp_path, lines, options, message):
    assert message in warned(check(tmp_path, lines, **options))


def test_many_negative_quantities_are_one_warning(tmp_path):
    lines = [line.replace(",2,1.50", ",-2,1.50") if n % 4 == 0 else line for n, line in enumerate(LINES)]
    negative = [
        warning for warning in check(tmp_path, lines).warnings if "negative" in warning or "quantity" in warning
    ]
    assert len(negative) == 1 and "reject 25 lines with a negative quantity: if they are returns, set" in negative[0]


def test_possibly_useful_columns_are_listed(tmp_path):
    result = check(
        tmp_path, [line + ",x,y,z,w" for line in LINES],
        header=HEADER + ",Product Name,dept,DEPARTMENT,order_status",
        columns="customer_id: buyer, product_id: sku, time: at",
    )  # fmt: skip
    text = result.to_text()
    assert "not used: 'receipt', 'n', 'price', 'Product Name', 'dept', 'DEPARTMENT', 'order_status'" in text
    for column, meaning in [
        ("receipt", "is it `order_id`?"),
        ("price", "is it `unit_price`?"),
        ("Product Name", "is it `title`?"),
        ("DEPARTMENT", "is it `category`?"),
    ]:
        assert f"'{column}' is possibly useful: {meaning}" in text


def test_each_rule_that_rejects_a_line_is_listed_with_an_example(tmp_path):
    result = check(tmp_path, [*LINES, "2017-01-01 10:00,,A1,r,1,0"])
    text = result.to_text()
    assert "would reject 1.0% of 101 lines" in text
    assert f"no_customer: 1 line; {CLEANING_RULES['no_customer'].reason}" in text
    assert '2017-01-01.csv, row 21: {"at":"2017-01-01 10:00","buyer":"","sku":"A1"' in text
    assert "invalid_price: 1 line" in text
    assert text.count(" (can be on purpose)") == 1, "of no_customer"


# Whether the data source can be used


def test_a_data_source_without_valid_lines_cannot_be_used(tmp_path):
    result = check(tmp_path, [line.replace(",2,1.50", ",2,0") for line in LINES])
    assert not result.ok and "no purchase is left of 100 lines" in result.errors[0]
    assert "reject all of the lines as `invalid_price`: in these lines, 'price' is '0'" in warned(result)


def test_a_data_source_with_mostly_invalid_lines_cannot_be_used(tmp_path):
    lines = [line if n % 5 else line.replace(" 10:", " 1O:") for n, line in enumerate(LINES)]
    result = check(tmp_path, [line.replace(",2,1.50", ",2,0") if n % 2 else line for n, line in enumerate(lines)])
    assert not result.ok and "reject 60.0% of the lines by mistake" in result.errors[0]


def test_excluded_lines_do_not_make_a_data_source_unusable(tmp_path):
    views = [line.replace("buyer", "x") + ",view" for line in LINES * 3]
    result = check(tmp_path, [*(f"{line},purchase" for line in LINES), *views], header=HEADER + ",kind",
                  purchases="include: {kind: [purchase]}")  # fmt: skip
    assert result.ok and "'kind' of the included lines: 'purchase' (100)" in result.to_text()


def test_rejecting_a_few_lines_with_much_value_is_a_warning(tmp_path):
    dear = LINES[0].replace("ann0", "bob").replace(",2,1.50", ",30,-99")
    message = "reject 1.0% of the lines (91% of the value) as `invalid_price`"
    assert message in warned(check(tmp_path, [*LINES[1:], dear]))


def test_many_bulk_orders_are_a_warning_with_the_setting(tmp_path):
    lines = [line.replace(",2,1.50", ",900,1.50") if n % 10 == 0 else line for n, line in enumerate(LINES)]
    result = check(tmp_path, lines)
    assert "bulk orders: 10 lines of 900 to 900 pieces" in result.to_text()
    assert "10.0% of the lines (98% of the value) are bulk orders" in warned(result)
    assert "set `bulk_quantity: none`" in warned(result)
    assert "bulk orders" not in check(tmp_path, lines, purchases="bulk_quantity: none").to_text()


def test_too_little_training_data_is_a_warning(tmp_path):
    once = [line.replace(f",ann{n % 20},A{n % 20},", f",bob{n},A{n % 4},") for n, line in enumerate(LINES)]
    message = warned(check(tmp_path, once))
    assert "no customer bought on two days" in message and "5 customers" not in message
    unique = [line.replace(",A", f",{n}-A") for n, line in enumerate(LINES)]
    message = warned(check(tmp_path, unique))
    assert "no product has 5 customers, so ALS can't train" in message and "two days" not in message


# Lines that are not purchases, and ids that are not products


@pytest.mark.parametrize(
    ("purchases", "message"),
    [
        ("", "'kind' has 'view' (100), 'purchase' (100), 'remove_from_cart' (50), and all these lines count as "
             "purchases: set `include: {kind: [purchase]}`"),
        ("exclude: {kind: [view]}", "column 'kind': lines with 'remove_from_cart' (50) count as purchases: if they are "
                                    "not purchases, set `include: {kind: [purchase]}`"),
    ],
)  # fmt: skip
def test_lines_of_other_events_are_a_warning(tmp_path, purchases, message):
    kinds = [f"{line},{kind}" for kind, number in (("view", 100), ("purchase", 100), ("remove_from_cart", 50))
             for line in LINES[:number]]  # fmt: skip
    assert message in warned(check(tmp_path, kinds, header=HEADER + ",kind", purchases=purchases))


def test_ids_that_are_not_products_are_a_warning_with_the_setting(tmp_path):
    coded = [line.replace(f",A{n % 20},", f",{85000 + n % 20}B,") for n, line in enumerate(LINES)]
    service = [LINES[n].replace(f",A{n},", ",POST,") for n in range(20)]
    manual = [LINES[n].replace(f",A{n},", ",M,").replace("1.50", price) for n, price in enumerate(("1", "9", "250"))]
    dotted = [LINES[n].replace(f",A{n},", ",PADS,") for n in range(20)]  # unusual only by its id
    result = warned(check(tmp_path, coded + service + manual + dotted))
    assert "'POST', 'M': 16.1% of the lines, probably not products" in result
    assert "`exclude: {sku: [POST, M]}`" in result


def test_excluded_ids_are_not_a_warning(tmp_path):
    lines = [*LINES, *(f"2017-01-01 10:00,{who},A1,r{who},1,1" for who in ("GUEST", "NULL"))]
    lines += ["2017-01-01 10:00,ann1,POST,r,-1,1"]
    assert "`exclude: {buyer: [GUEST, 'NULL']}`" in warned(check(tmp_path, lines))
    result = warned(check(tmp_path, lines, purchases="exclude: {buyer: [GUEST, 'NULL'], sku: [POST]}"))
    assert "means" not in result and "POST" not in result and "negative quantity" not in result


@pytest.mark.parametrize("values", [("summer_sale", "brand_search", "newsletter"), ("phone order", "click & collect")])
def test_columns_that_are_not_events_are_not_a_warning(tmp_path, values):
    lines = [f"{line},{values[n % len(values)]}" for n, line in enumerate(LINES)]
    assert "include:" not in warned(check(tmp_path, lines, header=HEADER + ",channel"))


def test_a_suggested_yaml_line_can_be_pasted(tmp_path):
    lines = [f"2017-01-01 10:0{n % 9},ann{n},{n}{n}{n}{n},r{n},1,1" for n in range(100, 130)]
    result = warned(check(tmp_path, [*lines, '2017-01-01 10:00,ann,"Fee",r,1,1', "2017-01-01 10:00,ann,#1: fee,r,1,1"]))
    assert yaml.safe_load(re.search(r"`(exclude: .*?)`", result)[1]) == {"exclude": {"sku": ["Fee"]}}


def test_days_before_the_first_file_are_not_covered(tmp_path):
    result = check(tmp_path, LINES, rest="first_day: 2016-01-01")
    assert result.covered_days == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))


def test_a_status_and_a_return_line_for_the_same_return_are_a_warning(tmp_path):
    lines = [*(f"{line},sold" for line in LINES), f"{LINES[0]},refunded", f"{LINES[0].replace(',2,', ',-2,')},refunded"]
    rest = "returns: {negative_quantity: true, status: {column: state, values: [refunded]}}"
    assert "each return would count twice" in warned(check(tmp_path, lines, header=HEADER + ",state", rest=rest))


@pytest.mark.parametrize(("reason", "is_warned"), [("small", False), ("tiny", True)])
def test_reasons_of_size_that_no_return_has_are_a_warning(tmp_path, reason, is_warned):
    lines = [*(f"{line}," for line in LINES), f"{LINES[0].replace(',2,', ',-2,')},small"]
    rest = f"returns: {{negative_quantity: true, wrong_size: {{column: why, values: [{reason}]}}}}"
    result = check(tmp_path, lines, header=HEADER + ",why", rest=rest)
    assert ("no return has a reason of size" in warned(result)) is is_warned


def test_ids_are_checked_without_the_missing_ones(tmp_path):
    lines = [f"2017-01-01 10:00,{buyer},A,{n},1,1" for n, buyer in enumerate([""] * 60 + ["17850.0"] * 60)]
    result = check(tmp_path, lines)
    assert "ids end in '.0', such as '17850.0'" in warned(result)
    assert "of one customer, ''" not in warned(result)


# Returns and orders


@pytest.mark.integration
def test_a_status_only_on_the_first_line_of_an_order_is_a_warning(tmp_path):
    lines = [f"{line.replace(f',{1 + n // 20}{n % 20},', f',o{n // 2},')},{'' if n % 2 else 'paid'}"
             for n, line in enumerate(LINES)]  # fmt: skip
    options = {"header": HEADER + ",state", "rest": "returns: {status: {column: state, values: [refunded]}}"}
    message = "column 'state': empty on 50.0% of the lines, but another line of the order has a value"
    assert message in warned(check(tmp_path, lines, **options))
    assert "set `order_columns: [state]`" in warned(check(tmp_path, lines, **options))
    assert "empty on" not in warned(check(tmp_path, lines, **options, purchases="order_columns: [state]"))


@pytest.mark.parametrize(
    ("line_type", "state", "message"),
    [
        ("purchase", "in place", None),
        ("purchase", "separate line", "most lines with that status have a second line of the same order and product"),
        ("return", "in place", "most lines with that status have no separate purchase line"),
        ("return", "separate line", None),
    ],
)
def test_a_wrong_line_type_of_the_status_is_a_warning(tmp_path, line_type, state, message):
    returned = [f"{line.replace('10:', '11:') if state == 'separate line' else line},refunded" for line in LINES[:10]]
    sold = [f"{line},sold" for line in LINES[0 if state == "separate line" else 10 : 20]]
    rest = "first_day: 2017-01-01\nlast_day: 2017-01-05\n"
    rest += f"returns: {{status: {{column: state, values: [refunded], line_type: {line_type}}}}}"
    result = check(tmp_path, sold + returned, header=HEADER + ",state", rest=rest, export=True)
    assert "10 lines with 'state' = refunded" in result.to_text()
    assert (message in warned(result)) if message else ("with that status" not in warned(result))


# Exports


def test_the_check_of_an_export_shows_the_days_to_paste(tmp_path):
    result = check(tmp_path, LINES, export=True)
    assert not result.ok and "an export needs `first_day` and `last_day`" in result.errors[0]
    days = re.findall(r"^  ((?:first|last)_day: \S+)$", result.to_text(), re.MULTILINE)
    assert days == ["first_day: 2017-01-01", "last_day: 2017-01-05"]
    pasted = check(tmp_path, LINES, export=True, rest="\n".join(days))
    assert pasted.ok


def test_outlier_times_do_not_extend_an_export(tmp_path):
    outliers = [LINES[0].replace("2017", "1970"), LINES[0].replace("2017", "2099")]
    result = check(tmp_path, LINES + outliers, export=True)
    assert result.export_days == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))
    assert "1.0% of the lines are before 2017-01-01 or after 2017-01-05, and are not read" in warned(result)
    assert "1.0% of the lines are in the future, 2099-01-01 to 2099-01-01" in warned(result)


@pytest.mark.parametrize("has_days", [False, True])
def test_future_lines_are_a_warning_and_not_days_of_an_export(tmp_path, has_days):
    now = dt.datetime(2017, 1, 5, 12, tzinfo=dt.timezone.utc).timestamp()
    later = [LINES[0].replace("2017-01-01", day) for day in ("2017-01-09", "2018-02-01")]
    rest = "first_day: 2017-01-01\nlast_day: 2018-02-01" if has_days else ""
    check(tmp_path, LINES + later, export=True, rest=rest)
    result = check_source(load_data_source(str(tmp_path / "shop.yaml"), tmp_path), now=now)
    assert result.export_days == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))
    assert "2.0% of the lines are in the future, 2017-01-09 to 2018-02-01" in warned(result)
    message = "last_day (2018-02-01) is in the future" if has_days else "an export needs `first_day`"
    assert message in result.errors[0]


@pytest.mark.parametrize("rest", ["", "last_day: 2099-12-31"])
def test_a_daily_file_of_a_future_day_is_an_error(tmp_path, rest):
    result = check(tmp_path, [*LINES, LINES[0].replace("2017", "2071")], rest=rest)
    message = "there is a file for 2071-01-01, which is in the future: fix its name, or remove it"
    assert result.errors == [message]


def test_days_after_the_last_file_are_not_covered(tmp_path):
    assert check(tmp_path, LINES, rest="last_day: 2099-12-31").covered_days == (
        dt.date(2017, 1, 1),
        dt.date(2017, 1, 5),
    )


def test_only_the_first_unreadable_days_have_their_error(tmp_path):
    result = check(tmp_path, LINES, purchases="time_format: '%d.%m.%Y'")
    assert len(result.errors) == 4 and result.errors[-1] == "2 more days of the sample can't be read"


# Complete shops


@pytest.mark.integration
def test_the_giftware_shop_can_be_used_and_loses_no_line(tmp_path):
    source = load_data_source(str(write_giftware_shop(tmp_path)), tmp_path)
    check_result = check_source(source, days=200)
    assert check_result.ok
    text = check_result.to_text()
    assert "18 days without files (shop closed): every Saturday, 2010-12-26" in text
    assert "1/12/2010 10:31 → 2010-12-01 10:31 local time" in text
    assert "with a negative quantity or an order id that begins with 'C'" in text
    assert "with different texts: the most common text is used" in text

    assert source.bounds() == GIFTWARE_DAYS
    counts = Counter[str]()
    for day in source.landed_days():
        raw = read_day(source, day).to_pandas()
        result = clean_day(raw, day, CleaningSettings(source.time_zone, source.has_price))
        assert len(raw) == len(result.cleaned) + len(result.rejected)
        counts.update(result.rejected_by_rule())
        counts["cleaned"] += len(result.cleaned)
        assert {"POST", "M", "B"}.isdisjoint(result.cleaned["product_id"])
        assert result.cleaned.loc[result.cleaned["weight"] > 0, "quantity"].max() < 1000
    assert 4000 < counts["cleaned"] < 6000
    assert counts.keys() - {"cleaned"} == {
        "no_customer", "excluded", "invalid_price", "duplicate_line",
    }  # fmt: skip


@pytest.mark.slow
def test_the_amazon_beauty_files_can_be_used(tmp_path):
    path = write_beauty_source(tmp_path)
    if path is None:
        pytest.skip(f"the Amazon Beauty files are not in {BEAUTY_DATA}")
    source = load_data_source(str(path), tmp_path)
    result = check_source(source)
    assert result.ok
    assert result.export_days == source.bounds() == (dt.date(2002, 6, 12), dt.date(2014, 7, 23))
    text = result.to_text()
    assert "198,502 lines, 22,363 customers, 12,101 products" in text
    assert "products of the log in the catalog: all" in text
    assert sum(len(table) for table in read_export(source).values()) == 198_502
    assert read_catalog(source)["category"][0].as_py() == "Beauty > Makeup > Nails > Nail Polish"


# The documentation


def test_the_docs_list_every_cleaning_rule_with_its_reason():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|$", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    documented = [f"| `{name}` | {reason} |" for name, reason in rows if name in CLEANING_RULES]
    expected = [f"| `{rule.name}` | {rule.reason} |" for rule in CLEANING_RULES.values()]
    assert documented == expected, "paste these rows into docs/sources.md:\n" + "\n".join(expected)


def test_the_examples_of_the_docs_are_valid(tmp_path):
    examples = re.findall(r"^```yaml\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for number, example in enumerate(examples):
        (tmp_path / f"example_{number}.yaml").write_text(example, encoding="utf-8")
        source = load_data_source(str(tmp_path / f"example_{number}.yaml"), tmp_path)
        assert source.is_daily and source.time_zone == "Europe/Berlin"
    assert len(examples) == 4


def test_the_docs_describe_every_field():
    text = DOC.read_text(encoding="utf-8")
    parts = (
        DataSource, PurchaseLog, PurchaseColumns, EventLog, EventColumns, Catalog, CatalogColumns, Attribute, SqlQuery,
        DeltaSource, ReturnSettings, ReturnStatus,
    )  # fmt: skip
    fields = {name for part in parts for name, field in part.model_fields.items() if not field.exclude}
    assert {name for name in fields if not re.search(rf"(^ *|`){name}(:|`)", text, re.MULTILINE)} == set()
    assert {"home", "folder"}.isdisjoint(fields)


# Data sources under a URI


def check_uri(folder: Path, path: str) -> SourceCheck:
    (folder / "shop.yaml").write_text(f"purchases: {{path: '{path}', columns: {{{COLUMNS}}}}}\n")
    return check_source(load_data_source(str(folder / "shop.yaml"), folder / "home"))


@pytest.mark.integration
def test_a_uri_gives_the_same_result_as_a_local_path(tmp_path):
    here = check(tmp_path, LINES).to_text()
    store = UPath(f"memory:/{tmp_path}/store")
    store.mkdir(parents=True)
    for file in tmp_path.glob("*.csv"):
        (store / file.name).write_bytes(file.read_bytes())
    there = check_uri(tmp_path, f"{store}/{{date:%Y-%m-%d}}.csv").to_text()
    assert there == here.replace(str(tmp_path), str(store))


def test_the_error_for_a_uri_without_files_lists_the_files_in_the_folder(tmp_path):
    store = UPath(f"memory:/{tmp_path}/store")
    store.mkdir(parents=True)
    (store / "sales.txt").write_text("")
    result = check_uri(tmp_path, f"{store}/{{date:%Y-%m-%d}}.csv")
    assert result.errors[0].endswith(f"the folder {store} has sales.txt; fix `path`, or land files")
    result = check_uri(tmp_path, f"{store}/log/{{date:%Y-%m-%d}}.csv")
    assert result.errors[0].endswith(f"the folder {store}/log does not exist; fix `path`, or land files")


def test_a_missing_driver_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    result = check_uri(tmp_path, "s3://bucket/*.csv")
    assert result.errors == ["s3://bucket/*.csv: the driver for this path is not installed: Install s3fs to access S3"]


@pytest.mark.integration
def test_the_check_loads_neither_spark_nor_dagster():
    imports = "import sys, rec_assets.sources.check"
    loaded = f"{imports}; assert not {{'pyspark', 'dagster'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True)
