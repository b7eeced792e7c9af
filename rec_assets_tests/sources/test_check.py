import datetime as dt
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from upath import UPath

from rec_assets.recsys.data.cleaning import RULES, CleaningRules, clean_day
from rec_assets.sources.check import SourceCheck, check_source
from rec_assets.sources.reader import read_catalog, read_day, read_export
from rec_assets.sources.spec import (
    Catalog,
    CatalogColumns,
    PurchaseColumns,
    Purchases,
    ReturnSettings,
    Source,
    StatusColumn,
    load_source,
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
    """A look at a shop with these lines, in a file a day (by their first ten characters) or in an export."""
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
    return check_source(load_source(str(folder / "shop.yaml"), folder / "home"))


def warned(found: SourceCheck) -> str:
    return "\n".join(found.warnings)


# A source that is fine


def test_a_sound_source_is_explained_without_a_complaint(tmp_path):
    lines = [line.replace(f",A{n % 20},", f",A{(n + n // 20) % 20},") for n, line in enumerate(LINES)]
    found = check(tmp_path, lines, catalog="sku,name\n" + "".join(f"A{n},thing {n}\n" for n in range(20)))
    assert found.ok
    assert found.errors == found.warnings == []
    text = found.to_text()
    for said in (
        "5 days with files, 2017-01-01 to 2017-01-05",
        "20 products, of them excluded: 0",
        "products of the log that are in it: all",
        "2017-01-01 10:00 → 2017-01-01 10:00 by the shop's clock",
        "customer_id  ← 'buyer', for instance 'ann0'",
        "unit_price   ← 'price', for instance '1.50'",
        "100 read, of 20 customers and 20 products",
        "without customer: none",
        "100 orders",
        "none: the source doesn't say how to know them",
        "with a text to compare them by: all",
        "would refuse none of 100 lines",
        "This source can be used.",
    ):
        assert said in text


def test_the_sample_is_spread_over_the_days(tmp_path):
    check(tmp_path, [f"2017-01-{day:02} 10:00,ann,A,r,1,1" for day in range(1, 30)])
    found = check_source(load_source(str(tmp_path / "shop.yaml"), tmp_path), days=5)
    assert "read for this: 2017-01-01, 2017-01-08, 2017-01-15, 2017-01-22, 2017-01-29" in found.to_text()


def test_times_are_shown_by_the_shops_clock(tmp_path):
    found = check(
        tmp_path,
        ["2017-01-01 11:53:26,ann,A,r,1,1"],
        purchases="times_are: utc",
        rest="time_zone: America/New_York",
    )
    assert "2017-01-01 11:53:26 → 2017-01-01 06:53 by the shop's clock" in found.to_text()
    assert "in UTC where they have no offset; days are those of America/New_York" in found.to_text()


def test_closed_days_are_told_by_weekday(tmp_path):
    first = dt.date(2017, 1, 1)
    days = [first + dt.timedelta(days=n) for n in range(28)]
    open_days = [day for day in days if day.weekday() != 5 and day != dt.date(2017, 1, 16)]
    found = check(tmp_path, [f"{day} 10:00,ann,A,r,1,1" for day in open_days])
    assert "closed on 4 days in between: every Saturday, 2017-01-16" in found.to_text()
    assert "no file for" not in warned(found)


def test_a_long_time_without_files_is_a_warning(tmp_path):
    found = check(tmp_path, [LINES[0], LINES[0].replace("01-01", "02-01")])
    assert "no file for 30 days between 2017-01-01 and 2017-02-01" in warned(found)


# What is wrong


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([], {}, "no file matches"),
        ([], {"export": True}, "no file matches"),
        ([], {"rest": "first_day: 2017-01-01\nlast_day: 2017-12-31"}, "no file matches"),
        (LINES, {"header": "at;buyer"}, "csv: CSV parse error: Row #2: Expected 1 columns, got 6"),
        (LINES, {"header": HEADER.replace("sku", "SKU")}, "column 'sku' is missing"),
        (
            LINES,
            {"purchases": "time_format: '%d.%m.%Y'"},
            "column 'at': 20 of 20 values are not times written as",
        ),
        (LINES, {"purchases": "format: parquet"}, "not readable as parquet"),
        (LINES, {"catalog": "name\nx\n"}, "products.txt: column 'sku' is missing"),
        (LINES, {"rest": "catalog: {path: no.csv, columns: {product_id: a}}"}, "no catalog file matches"),
        (LINES, {"rest": "first_day: 2018-01-01"}, "none between first_day (2018-01-01)"),
        (
            LINES,
            {"rest": "first_day: 2018-01-01\nlast_day: 2018-01-31"},
            "none between first_day (2018-01-01)",
        ),
        (["soon,ann,A,r,1,1"], {"export": True}, "not times in ISO 8601"),
    ],
)
def test_what_is_wrong_is_told_and_not_raised(tmp_path, lines, options, said):
    found = check(tmp_path, lines, **options)
    assert not found.ok
    assert said in "\n".join(found.errors)
    assert found.to_text().endswith("named above.")


def test_what_lies_where_no_file_was_found_is_told(tmp_path):
    (tmp_path / "log-2017-01-01.csv").touch()
    error = check(tmp_path, []).errors[0]
    assert f"{tmp_path} holds log-2017-01-01.csv, shop.yaml; fix `path`" in error


def test_a_folder_that_is_missing_is_told(tmp_path):
    (tmp_path / "shop.yaml").write_text(f"purchases: {{path: 'sales/2017/*.csv', columns: {{{COLUMNS}}}}}")
    error = check_source(load_source(str(tmp_path / "shop.yaml"), tmp_path)).errors[0]
    assert f"there is no {tmp_path / 'sales'}" in error


def test_one_bad_day_does_not_hide_the_others(tmp_path):
    check(tmp_path, LINES)
    (tmp_path / "2017-01-03.csv").write_bytes(b"")
    found = check(tmp_path, [line for line in LINES if not line.startswith("2017-01-03")])
    assert len(found.errors) == 1 and "2017-01-03.csv: the file is empty" in found.errors[0]
    assert "80 read" in found.to_text()


def test_files_without_lines_are_an_error(tmp_path):
    (tmp_path / "2017-01-01.csv").write_text(HEADER + "\n")
    assert "the files that were read have no line" in check(tmp_path, []).errors[0]


# What looks wrong


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([f"2017-01-01,ann,A{n},{n},1,1" for n in range(9)], {}, "nearly all times are midnight: there"),
        ([f"2017-01-01T00:00Z,ann,A{n},{n},1,1" for n in range(9)], {"rest": "time_zone: Asia/Tokyo"},
         "midnight in UTC, which is 09:00 in Asia/Tokyo: if they are dates, set `time_zone: UTC`"),
        (LINES, {"columns": COLUMNS.replace(", quantity: n", "")}, "no `quantity`: each line counts"),
        (LINES, {"columns": COLUMNS.replace(", unit_price: price", "")}, "no `unit_price` or `amount`"),
        (LINES, {}, "no product has a text"),
        ([*LINES, *LINES[:9]], {}, "8.3% of the lines are duplicates: did files land twice"),
        ([*LINES, "2017-01-01 10:00,ann,A1,r,-1,1"], {}, "1 line with a quantity below 0 would be refused"),
        ([*LINES, "2017-01-01 10:00,ann,A1,C12,1,1"], {}, "order id such as 'C12', unlike most: if"),
        ([*LINES, "2017-01-01 10:00,NULL,A1,r,1,1"], {}, "1 line with the customer_id 'NULL': if"),
        ([line.replace("2017-01-01 10", "2017-01-01 20") for line in LINES],
         {"purchases": "times_are: utc", "rest": "time_zone: Asia/Tokyo"}, "files hold days of UTC: set"),
        ([line if n % 4 else line.replace(" 10", " ??") for n, line in enumerate(LINES)], {},
         "25.0% of the lines (25% of the value) would be refused as `unparseable_time`"),
        ([f"2017-01-01 10:0{n % 9},ann{n},A,one,1,1" for n in range(9)], {}, "1 of 1 order id belong to"),
        ([f"2017-01-01 10:00,{n}.0,A,{n},1,1" for n in range(9)], {}, "ids end in '.0', such as '0.0'"),
        (LINES, {"catalog": "sku,name\nA1,one\n"}, "95.0% of the products are not in the catalog"),
        ([f"2017-01-01 10:00,ann,{n},r,1,1" for n in range(1, 9)],
         {"catalog": "sku,name\n" + "".join(f"00{n},x\n" for n in range(1, 9))},
         "8 product ids of the log and the catalog differ by leading zeros, such as '1' and '001'"),
        (["2017-01-01 10:00,ann,a1,r,1,1"], {"catalog": "sku,name\nA1,x\n"}, "differ by capital letters"),
        ([line + ",KÃ¤se" for line in LINES],
         {"header": HEADER + ",name", "columns": COLUMNS + ", title: name"},
         "set `encoding: utf-8`"),
        (["20,ann,A,r,1,1", "30,ann,B,r,1,1"], {"export": True, "purchases": "time_format: unix_seconds"},
         "the times reach from 1970-01-01 to 1970-01-01: is `time_format` right"),
    ],
)  # fmt: skip
def test_what_looks_like_a_mistake_is_a_warning(tmp_path, lines, options, said):
    assert said in warned(check(tmp_path, lines, **options))


def test_columns_that_look_useful_are_pointed_out(tmp_path):
    found = check(
        tmp_path, [line + ",x,y,z,w" for line in LINES],
        header=HEADER + ",Product Name,dept,DEPARTMENT,order_status",
        columns="customer_id: buyer, product_id: sku, time: at",
    )  # fmt: skip
    text = found.to_text()
    assert "not used: 'receipt', 'n', 'price', 'Product Name', 'dept', 'DEPARTMENT', 'order_status'" in text
    for column, meaning in [
        ("receipt", "is it `order_id`?"),
        ("price", "is it `unit_price`?"),
        ("Product Name", "is it `title`?"),
        ("DEPARTMENT", "is it `category`?"),
    ]:
        assert f"'{column}' looks useful: {meaning}" in text


def test_each_rule_that_refuses_a_line_is_told_with_an_example(tmp_path):
    found = check(tmp_path, [*LINES, "2017-01-01 10:00,,A1,r,1,0"])
    text = found.to_text()
    assert "would refuse 1.0% of 101 lines" in text
    assert f"no_customer: 1 line; {RULES['no_customer']}" in text
    assert '2017-01-01.csv, row 21: {"at":"2017-01-01 10:00","buyer":"","sku":"A1"' in text
    assert "price_impossible: 1 line" in text


# The verdict


def test_a_source_of_which_every_line_is_refused_cannot_be_used(tmp_path):
    found = check(tmp_path, [line.replace(",2,1.50", ",2,0") for line in LINES])
    assert not found.ok and "no purchase is left of the 100 lines" in found.errors[0]
    assert "all of the lines would be refused as `price_impossible`: 'price' is '0' there" in warned(found)


def test_a_source_of_which_most_lines_are_refused_by_mistake_cannot_be_used(tmp_path):
    lines = [line if n % 5 else line.replace(" 10:", " 1O:") for n, line in enumerate(LINES)]
    found = check(tmp_path, [line.replace(",2,1.50", ",2,0") if n % 2 else line for n, line in enumerate(lines)])
    assert not found.ok and "60.0% of the lines would be refused by mistake" in found.errors[0]


def test_lines_that_are_left_out_on_purpose_do_not_count_against_a_source(tmp_path):
    views = [line.replace("buyer", "x") + ",view" for line in LINES * 3]
    found = check(tmp_path, [*(f"{line},purchase" for line in LINES), *views], header=HEADER + ",kind",
                  purchases="only: {kind: [purchase]}")  # fmt: skip
    assert found.ok and "'kind' of the lines that count: 'purchase' (100)" in found.to_text()


def test_a_few_lines_that_are_worth_much_are_worth_a_look(tmp_path):
    dear = LINES[0].replace("ann0", "bob").replace(",2,1.50", ",30,-99")
    said = "1.0% of the lines (91% of the value) would be refused as `price_impossible`"
    assert said in warned(check(tmp_path, [*LINES[1:], dear]))


def test_bulk_orders_are_told_with_what_to_do_where_they_are_the_business(tmp_path):
    lines = [line.replace(",2,1.50", ",900,1.50") if n % 10 == 0 else line for n, line in enumerate(LINES)]
    found = check(tmp_path, lines)
    assert "bulk orders: 10 lines of 900 to 900 pieces" in found.to_text()
    assert "10.0% of the lines (98% of the value) are bulk orders" in warned(found)
    assert "set `bulk_quantity: none`" in warned(found)
    assert "bulk orders" not in check(tmp_path, lines, purchases="bulk_quantity: none").to_text()


def test_a_log_from_which_little_can_be_learned_says_so(tmp_path):
    once = [line.replace(f",ann{n % 20},A{n % 20},", f",bob{n},A{n % 4},") for n, line in enumerate(LINES)]
    said = warned(check(tmp_path, once))
    assert "no customer bought on two days" in said and "5 customers" not in said
    unique = [line.replace(",A", f",{n}-A") for n, line in enumerate(LINES)]
    said = warned(check(tmp_path, unique))
    assert "no product has 5 customers: ALS can't learn" in said and "two days" not in said


# Lines that are no purchases, products that are none


@pytest.mark.parametrize(
    ("purchases", "said"),
    [
        ("", "'kind' holds 'view' (100), 'purchase' (100), 'remove_from_cart' (50), and each of these lines counts as "
             "a purchase: set `only: {kind: [purchase]}`"),
        ("exclude: {kind: [view]}", "column 'kind': lines with 'remove_from_cart' (50) count as purchases: if they are "
                                    "none, name what is: `only: {kind: [purchase]}`"),
    ],
)  # fmt: skip
def test_lines_that_are_no_purchases_are_pointed_out(tmp_path, purchases, said):
    kinds = [f"{line},{kind}" for kind, number in (("view", 100), ("purchase", 100), ("remove_from_cart", 50))
             for line in LINES[:number]]  # fmt: skip
    assert said in warned(check(tmp_path, kinds, header=HEADER + ",kind", purchases=purchases))


def test_codes_that_are_no_products_are_pointed_out_with_the_line_that_leaves_them_out(tmp_path):
    coded = [line.replace(f",A{n % 20},", f",{85000 + n % 20}B,") for n, line in enumerate(LINES)]
    service = [LINES[n].replace(f",A{n},", ",POST,") for n in range(20)]
    manual = [LINES[n].replace(f",A{n},", ",M,").replace("1.50", price) for n, price in enumerate(("1", "9", "250"))]
    dotted = [LINES[n].replace(f",A{n},", ",PADS,") for n in range(20)]  # odd by its code alone
    found = warned(check(tmp_path, coded + service + manual + dotted))
    assert "'POST', 'M': bought in 16.1% of the lines, and by the look of it no products" in found
    assert "`exclude: {sku: [POST, M]}`" in found


def test_what_is_left_out_already_is_not_pointed_out_again(tmp_path):
    lines = [*LINES, *(f"2017-01-01 10:00,{who},A1,r{who},1,1" for who in ("GUEST", "NULL"))]
    lines += ["2017-01-01 10:00,ann1,POST,r,-1,1"]
    assert "`exclude: {buyer: [GUEST, 'NULL']}`" in warned(check(tmp_path, lines))
    found = warned(check(tmp_path, lines, purchases="exclude: {buyer: [GUEST, 'NULL'], sku: [POST]}"))
    assert "stands for none" not in found and "POST" not in found and "below 0" not in found


@pytest.mark.parametrize("values", [("summer_sale", "brand_search", "newsletter"), ("phone order", "click & collect")])
def test_columns_that_only_sound_like_events_are_left_in_peace(tmp_path, values):
    lines = [f"{line},{values[n % len(values)]}" for n, line in enumerate(LINES)]
    assert "only:" not in warned(check(tmp_path, lines, header=HEADER + ",channel"))


def test_a_yaml_line_that_is_proposed_may_be_pasted(tmp_path):
    lines = [f"2017-01-01 10:0{n % 9},ann{n},{n}{n}{n}{n},r{n},1,1" for n in range(100, 130)]
    found = warned(check(tmp_path, [*lines, '2017-01-01 10:00,ann,"Fee",r,1,1', "2017-01-01 10:00,ann,#1: fee,r,1,1"]))
    assert yaml.safe_load(re.search(r"`(exclude: .*?)`", found)[1]) == {"exclude": {"sku": ["Fee"]}}


def test_a_first_day_before_all_files_does_not_count_as_days(tmp_path):
    found = check(tmp_path, LINES, rest="first_day: 2016-01-01")
    assert found.covers == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))


def test_a_status_beside_a_return_line_of_its_own_is_told(tmp_path):
    lines = [*(f"{line},sold" for line in LINES), f"{LINES[0]},refunded", f"{LINES[0].replace(',2,', ',-2,')},refunded"]
    rest = "returns: {negative_quantity: true, status: {column: state, values: [refunded]}}"
    assert "each would be taken back twice" in warned(check(tmp_path, lines, header=HEADER + ",state", rest=rest))


def test_lines_without_customer_do_not_hide_what_the_ids_look_like(tmp_path):
    lines = [f"2017-01-01 10:00,{buyer},A,{n},1,1" for n, buyer in enumerate([""] * 60 + ["17850.0"] * 60)]
    found = check(tmp_path, lines)
    assert "ids end in '.0', such as '17850.0'" in warned(found)
    assert "of one customer, ''" not in warned(found)


# Returns and orders


def test_a_status_that_stands_on_the_first_line_of_an_order_is_pointed_out(tmp_path):
    lines = [f"{line.replace(f',{1 + n // 20}{n % 20},', f',o{n // 2},')},{'' if n % 2 else 'paid'}"
             for n, line in enumerate(LINES)]  # fmt: skip
    options = {"header": HEADER + ",state", "rest": "returns: {status: {column: state, values: [refunded]}}"}
    said = "column 'state': empty on 50.0% of the lines, all of orders that have a value on another line"
    assert said in warned(check(tmp_path, lines, **options))
    assert "set `order_columns: [state]`" in warned(check(tmp_path, lines, **options))
    assert "empty on" not in warned(check(tmp_path, lines, **options, purchases="order_columns: [state]"))


@pytest.mark.parametrize(
    ("line_is", "state", "said"),
    [
        ("purchase", "in place", None),
        ("purchase", "beside", "most lines with that status have a second line, of the same order and product"),
        ("return", "in place", "most lines with that status have no purchase beside them"),
        ("return", "beside", None),
    ],
)
def test_it_is_found_out_whether_a_status_stands_on_the_purchase_or_beside_it(tmp_path, line_is, state, said):
    back = [f"{line.replace('10:', '11:') if state == 'beside' else line},refunded" for line in LINES[:10]]
    sold = [f"{line},sold" for line in LINES[0 if state == "beside" else 10 : 20]]
    rest = "first_day: 2017-01-01\nlast_day: 2017-01-05\n"
    rest += f"returns: {{status: {{column: state, values: [refunded], line_is: {line_is}}}}}"
    found = check(tmp_path, sold + back, header=HEADER + ",state", rest=rest, export=True)
    assert "10 lines, known by 'state' = refunded" in found.to_text()
    assert (said in warned(found)) if said else ("with that status" not in warned(found))


# Exports


def test_an_export_tells_the_days_to_paste(tmp_path):
    found = check(tmp_path, LINES, export=True)
    assert not found.ok and "an export needs `first_day` and `last_day`" in found.errors[0]
    days = re.findall(r"^  ((?:first|last)_day: \S+)$", found.to_text(), re.MULTILINE)
    assert days == ["first_day: 2017-01-01", "last_day: 2017-01-05"]
    pasted = check(tmp_path, LINES, export=True, rest="\n".join(days))
    assert pasted.ok


def test_lines_with_a_time_far_away_do_not_stretch_an_export(tmp_path):
    odd = [LINES[0].replace("2017", "1970"), LINES[0].replace("2017", "2099")]
    found = check(tmp_path, LINES + odd, export=True)
    assert found.days == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))
    assert "1.0% of the lines will not be read: they are from before 2017-01-01 or after 2017-01-05" in warned(found)
    assert "1.0% of the lines lie in the future, 2099-01-01 to 2099-01-01" in warned(found)


@pytest.mark.parametrize("given", [False, True])
def test_lines_in_the_future_are_told_and_are_no_days_of_an_export(tmp_path, given):
    now = dt.datetime(2017, 1, 5, 12, tzinfo=dt.timezone.utc).timestamp()
    later = [LINES[0].replace("2017-01-01", day) for day in ("2017-01-09", "2018-02-01")]
    rest = "first_day: 2017-01-01\nlast_day: 2018-02-01" if given else ""
    check(tmp_path, LINES + later, export=True, rest=rest)
    found = check_source(load_source(str(tmp_path / "shop.yaml"), tmp_path), now=now)
    assert found.days == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))
    assert "2.0% of the lines lie in the future, 2017-01-09 to 2018-02-01" in warned(found)
    said = "last_day (2018-02-01) lies in the future" if given else "an export needs `first_day`"
    assert said in found.errors[0]


@pytest.mark.parametrize("rest", ["", "last_day: 2099-12-31"])
def test_a_daily_file_of_the_future_is_an_error_whatever_the_last_day(tmp_path, rest):
    found = check(tmp_path, [*LINES, LINES[0].replace("2017", "2071")], rest=rest)
    said = "a file has landed for 2071-01-01, which lies in the future: fix its name, or take it away"
    assert found.errors == [said]


def test_a_last_day_that_is_still_to_come_does_not_count_as_landed(tmp_path):
    assert check(tmp_path, LINES, rest="last_day: 2099-12-31").covers == (dt.date(2017, 1, 1), dt.date(2017, 1, 5))


def test_many_days_that_cannot_be_read_are_not_told_each(tmp_path):
    found = check(tmp_path, LINES, purchases="time_format: '%d.%m.%Y'")
    assert len(found.errors) == 4 and found.errors[-1] == "2 more of the days that were read can't be used"


# Shops of other kinds


def test_the_giftware_shop_is_understood_and_loses_no_line(tmp_path):
    source = load_source(str(write_giftware_shop(tmp_path)), tmp_path)
    found = check_source(source, days=200)
    assert found.ok
    text = found.to_text()
    assert "closed on 18 days in between: every Saturday, 2010-12-26" in text
    assert "1/12/2010 10:31 → 2010-12-01 10:31 by the shop's clock" in text
    assert "known by a negative quantity or an order id that begins with 'C'" in text
    assert "with texts that differ by line: the commonest is taken" in text

    assert source.bounds() == GIFTWARE_DAYS
    refused = Counter[str]()
    for day in source.landed_days():
        raw = read_day(source, day).to_pandas()
        result = clean_day(raw, day, CleaningRules(source.time_zone, source.has_price))
        assert len(raw) == len(result.cleaned) + len(result.rejected)
        refused.update(result.refused_by_rule())
        refused["kept"] += len(result.cleaned)
        assert {"POST", "M", "B"}.isdisjoint(result.cleaned["product_id"])
        assert result.cleaned.loc[result.cleaned["weight"] > 0, "quantity"].max() < 1000
    assert 4000 < refused["kept"] < 6000
    assert refused.keys() - {"kept"} == {
        "no_customer", "excluded", "price_impossible", "duplicate_line",
    }  # fmt: skip


def test_the_amazon_beauty_files_are_understood(tmp_path):
    path = write_beauty_source(tmp_path)
    if path is None:
        pytest.skip(f"the Amazon Beauty files are not in {BEAUTY_DATA}")
    source = load_source(str(path), tmp_path)
    found = check_source(source)
    assert found.ok
    assert found.days == source.bounds() == (dt.date(2002, 6, 12), dt.date(2014, 7, 23))
    text = found.to_text()
    assert "198,502 read, of 22,363 customers and 12,101 products" in text
    assert "products of the log that are in it: all" in text
    assert sum(len(table) for table in read_export(source).values()) == 198_502
    assert read_catalog(source)["category"][0].as_py() == "Beauty > Makeup > Nails > Nail Polish"


# The reference


def test_the_reference_names_every_rule_with_its_reason():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|$", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    documented = [(rule, reason) for rule, reason in rows if rule in RULES]
    assert documented == list(RULES.items())


def test_the_examples_of_the_reference_are_sources(tmp_path):
    examples = re.findall(r"^```yaml\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for number, example in enumerate(examples):
        (tmp_path / f"example_{number}.yaml").write_text(example, encoding="utf-8")
        source = load_source(str(tmp_path / f"example_{number}.yaml"), tmp_path)
        assert source.is_daily and source.time_zone == "Europe/Berlin"
    assert len(examples) == 2


def test_the_reference_explains_every_field():
    text = DOC.read_text(encoding="utf-8")
    parts = (Source, Purchases, PurchaseColumns, Catalog, CatalogColumns, ReturnSettings, StatusColumn)
    fields = {name for part in parts for name, about in part.model_fields.items() if not about.exclude}
    assert {name for name in fields if not re.search(rf"(^ *|`){name}(:|`)", text, re.MULTILINE)} == set()
    assert {"home", "folder"}.isdisjoint(fields)


# Sources under a URI


def check_uri(folder: Path, path: str) -> SourceCheck:
    (folder / "shop.yaml").write_text(f"purchases: {{path: '{path}', columns: {{{COLUMNS}}}}}\n")
    return check_source(load_source(str(folder / "shop.yaml"), folder / "home"))


def test_a_source_under_a_uri_is_explained_like_any_other(tmp_path):
    here = check(tmp_path, LINES).to_text()
    store = UPath(f"memory:/{tmp_path}/store")
    store.mkdir(parents=True)
    for file in tmp_path.glob("*.csv"):
        (store / file.name).write_bytes(file.read_bytes())
    there = check_uri(tmp_path, f"{store}/{{date:%Y-%m-%d}}.csv").to_text()
    assert there == here.replace(str(tmp_path), str(store))


def test_a_uri_that_finds_nothing_says_what_is_there(tmp_path):
    store = UPath(f"memory:/{tmp_path}/store")
    store.mkdir(parents=True)
    (store / "sales.txt").write_text("")
    found = check_uri(tmp_path, f"{store}/{{date:%Y-%m-%d}}.csv")
    assert found.errors[0].endswith(f"{store} holds sales.txt; fix `path`, or land files")
    found = check_uri(tmp_path, f"{store}/log/{{date:%Y-%m-%d}}.csv")
    assert found.errors[0].endswith(f"there is no {store}/log; fix `path`, or land files")


def test_a_driver_that_is_not_installed_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    found = check_uri(tmp_path, "s3://bucket/*.csv")
    assert found.errors == ["s3://bucket/*.csv: the driver for this path is not installed: Install s3fs to access S3"]
