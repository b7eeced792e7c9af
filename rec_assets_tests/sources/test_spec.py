import datetime as dt
import sys
from pathlib import Path

import fsspec
import pytest
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import DataSource, load_data_source

COLUMNS = "columns: {customer_id: buyer, product_id: sku, time: at}"
PRODUCTS = "columns: {product_id: sku}}"


def source(folder: Path, path: str = "log.csv", *, purchases: str = "", rest: str = "") -> DataSource:
    """The data source of a YAML file with these lines."""
    file = folder / "shop.yaml"
    more = "".join(f"\n  {line}" for line in purchases.splitlines())
    file.write_text(f"purchases:\n  path: '{path}'\n  {COLUMNS}{more}\n{rest}\n", encoding="utf-8")
    return load_data_source(str(file), folder / "home")


def land(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("at,buyer,sku\n")


# The YAML file


def test_a_path_and_three_columns_are_required(tmp_path):
    shop = source(tmp_path)
    assert shop.name == "shop"
    assert (shop.time_zone, shop.purchases.format, shop.purchases.time_format) == ("UTC", "csv", "iso8601")
    assert not shop.is_daily and not shop.has_price
    assert shop.catalog is None


def test_a_built_in_data_source_is_loaded_by_name(tmp_path):
    demo = load_data_source("complete_journey", tmp_path)
    assert demo.dataset == "complete_journey"
    assert demo.expand(demo.purchases.path).startswith(tmp_path.resolve().as_posix())


def test_values_are_the_text_of_the_file(tmp_path):
    shop = source(tmp_path, purchases="exclude: {sku: [0123, 1.50, no, 2017-01-01], shop: 7}")
    assert shop.purchases.exclude == {"sku": ["0123", "1.50", "no", "2017-01-01"], "shop": ["7"]}


@pytest.mark.parametrize("written", [r"\t", r"'\t'", r'"\t"'])
def test_a_tab_can_have_quotes_or_not(tmp_path, written):
    assert source(tmp_path, purchases=f"delimiter: {written}").purchases.delimiter == "\t"


def test_an_empty_field_counts_as_not_set(tmp_path):
    shop = source(tmp_path, purchases="encoding:", rest="catalog:\nfirst_day:")
    assert (shop.purchases.encoding, shop.catalog, shop.first_day) == ("utf-8", None, None)


@pytest.mark.parametrize(
    ("purchases", "rest", "message"),
    [
        ("formt: csv", "", "unknown field purchases.formt; did you mean format?"),
        ("", "catalogue: {}", "unknown field catalogue; did you mean catalog?"),
        ("times_are: utc", "", "unknown field purchases.times_are; known: path, "),
        ("", "returns: {status: {colum: x, values: y}}", "returns.status.colum; did you mean column?"),
        ("", "catalog: {path: p.csv, columns: {title: t}}", "catalog.columns.product_id is missing"),
        ("format: excel", "", "purchases.format: Input should be 'csv', 'parquet' or 'jsonl'"),
        ("delimiter: ';;'", "", "purchases.delimiter: String should have at most 1 character"),
        ("encoding: base64", "", "purchases.encoding: 'base64' is not an encoding such as utf-8"),
        ("encoding: punycode", "", "purchases.encoding: 'punycode' is not an encoding such as utf-8"),
        ("encoding: klingon", "", "purchases.encoding: 'klingon' is not an encoding such as utf-8"),
        ("time_format: '%d/%m %H:%M'", "", "or a pattern with year, month and day"),
        ("time_format: '%Q'", "", "or a pattern with year, month and day"),
        ("time_format: iso", "", "'iso' is not iso8601, unix_seconds"),
        ("format: jsonl\ndecimal: ','", "", "`decimal` is only for csv"),
        ("", "time_zone: Berlin", "time_zone: 'Berlin' is not an IANA time zone such as Europe/Berlin"),
        ("time_format: '%Y-%m-%d %m'", "", "or a pattern with year, month and day"),
        ("bulk_quantity: inf", "", "'inf' is not a quantity above 0 or none"),
        ("", "last_day: 9999-12-31", "last_day: Input should be less than 2200-01-01"),
        ("", "first_day: 0001-01-01", "first_day: Input should be greater than or equal to 1900-01-01"),
        ("", "first_day: 1.2.2017", "first_day: Input should be a valid date"),
        ("", "first_day: 2017-02-01\nlast_day: 2017-01-01", "first_day 2017-02-01 is after last_day"),
        ("", "name: my shop", "name: String should match pattern"),
        ("", "returns: {order_id_prefix: C}", "returns.order_id_prefix needs purchases.columns.order_id"),
        ("", "returns: {negative_quantity: yes}", "returns.negative_quantity needs purchases.columns"),
    ],
)  # fmt: skip
def test_the_error_for_a_wrong_field_has_the_field_and_the_fix(tmp_path, purchases, rest, message):
    with pytest.raises(SourceError, match=r"shop\.yaml: ") as error:
        source(tmp_path, purchases=purchases, rest=rest)
    assert message in str(error.value)


def test_unit_price_and_amount_together_are_an_error(tmp_path):
    columns = "{customer_id: c, product_id: p, time: t, unit_price: u, amount: a}"
    (tmp_path / "shop.yaml").write_text(f"purchases: {{path: log.csv, columns: {columns}}}")
    with pytest.raises(SourceError, match="set unit_price or amount, not both"):
        load_data_source(str(tmp_path / "shop.yaml"), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this file is empty"),
        (b"- a\n- b", "this file has a list"),
        (b"purchases: [", "can't be read as YAML"),
        (b"\nname: caf\xe9", "line 2: not UTF-8 text: save the file as UTF-8"),
        (b"name: shop", "purchases is missing"),
    ],
)
def test_a_file_that_is_not_a_data_source_is_an_error(tmp_path, content, message):
    (tmp_path / "shop.yaml").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        load_data_source(str(tmp_path / "shop.yaml"), tmp_path)


def test_the_error_for_an_unknown_name_lists_the_built_in_data_sources(tmp_path):
    with pytest.raises(SourceError, match=r"no data source 'my_shop'.*complete_journey"):
        load_data_source("my_shop", tmp_path)


# Days in paths

NEW_YEAR, MARCH = dt.date(2016, 12, 31), dt.date(2017, 3, 9)


days_in_paths = pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("{date:%Y-%m-%d}.csv", "2016-12-31.csv", "2017-03-09.csv"),
        ("sales/{date:%Y}/{date:%m}/{date:%d}/", "sales/2016/12/31/a.csv", "sales/2017/03/09/b.csv"),
        ("sales/{date:%Y/%m/%d}", "sales/2016/12/31/a.csv", "sales/2017/03/09/a.csv"),
        ("sales/{date:%Y}/{date:%m}/{date:%d}/*.csv", "sales/2016/12/31/a.csv", "sales/2017/03/09/a.csv"),
        ("date={date:%Y-%m-%d}/part-*.csv", "date=2016-12-31/part-0.csv", "date=2017-03-09/part-0.csv"),
        ("log_{date:%d%m%Y}.csv", "log_31122016.csv", "log_09032017.csv"),
        ("{date:%y%m%d}", "161231", "170309"),
        ("{date:%Y}-{date:%j}.csv", "2016-366.csv", "2017-068.csv"),
        ("{date:%d-%b-%Y}.csv", "31-Dec-2016.csv", "09-Mar-2017.csv"),
        ("{date:%B %d %Y}.csv", "December 31 2016.csv", "March 09 2017.csv"),
        ("{date:%Y}/log-{date:%Y-%m-%d}.csv", "2016/log-2016-12-31.csv", "2017/log-2017-03-09.csv"),
        ("shop?/{date:%Y%m%d}_*.csv", "shop1/20161231_0830.csv", "shop2/20170309_2300.csv"),
        ("*{date:%Y%m%d}*.csv", "a-98765432-20161231-1.csv", "20170309.csv"),
        ("**/{date:%Y%m%d}.csv", "north/1/20161231.csv", "20170309.csv"),
        ("till[0-9]/{date:%Y%m%d}.csv", "till1/20161231.csv", "till2/20170309.csv"),
    ],
)


@days_in_paths
def test_days_are_found_in_local_paths(tmp_path, path, first, second):
    land(tmp_path, first, second)
    shop = source(tmp_path, path)
    assert shop.is_daily
    assert shop.landed_days() == [NEW_YEAR, MARCH]
    assert shop.files(NEW_YEAR) == [tmp_path / first]
    assert shop.files(MARCH) == [tmp_path / second]
    assert shop.files() == sorted([tmp_path / first, tmp_path / second])
    assert shop.files(dt.date(2017, 1, 1)) == []
    assert shop.bounds() == (NEW_YEAR, MARCH)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{date}.csv", "{date} is not {home} or a date such as {date:%Y-%m-%d}"),
        ("{day}.csv", "{day} is not"),
        ("{date:%Y-%m-%d.csv", "{date:%Y-%m-%d.csv is not"),
        ("{date:%Y-%m}.csv", "the date must have year, month and day"),
        ("{date:%m-%d}.csv", "the date must have year, month and day"),
        ("{date:%Y-%m-%d-%H}.csv", "a date can have"),
    ],
)
def test_a_path_without_a_complete_date_is_an_error(tmp_path, path, message):
    with pytest.raises(SourceError) as error:
        source(tmp_path, path)
    assert f"purchases.path: {message}" in str(error.value)


def test_the_files_of_a_day_are_sorted_without_unfinished_and_hidden_files(tmp_path):
    complete = ["2017-01-01/a.csv", "2017-01-01/b.csv"]
    others = [".c.csv", "_SUCCESS", "d.csv.part", "e.csv.tmp", "_temporary/f.csv"]
    land(tmp_path, *reversed(complete), *(f"2017-01-01/{name}" for name in others))
    for path in ("{date:%Y-%m-%d}", "{date:%Y-%m-%d}/*"):
        assert source(tmp_path, path).files(dt.date(2017, 1, 1)) == [tmp_path / name for name in complete]


def test_a_hidden_file_counts_if_the_path_has_its_name(tmp_path):
    land(tmp_path, "_sales_2017-01-01.csv")
    assert len(source(tmp_path, "_sales_{date:%Y-%m-%d}.csv").files()) == 1


def test_files_that_do_not_match_the_path_exactly_are_ignored(tmp_path):
    land(tmp_path, "2017-02-30.csv", "2017-1-1.csv", "2017-01-01.csv.bak", "x2017-01-01.csv", "notes.csv")
    assert source(tmp_path, "{date:%Y-%m-%d}.csv").landed_days() == []


def test_success_markers_are_not_data(tmp_path):
    land(tmp_path, "2017-01-01/a.csv", "2017-01-01/a.csv.done", "2017-01-01/a.csv._SUCCESS", "2017-01-01/_SUCCESS")
    for path in ("{date:%Y-%m-%d}", "{date:%Y-%m-%d}/*"):
        assert source(tmp_path, path).files() == [tmp_path / "2017-01-01/a.csv"]


def test_brackets_in_the_folder_of_the_yaml_file_are_not_a_glob(tmp_path):
    folder = tmp_path / "shop [old]"
    land(folder, "2017-01-01.csv", "home/x.csv")
    assert source(folder, "{date:%Y-%m-%d}.csv").landed_days() == [dt.date(2017, 1, 1)]
    assert source(folder, "{home}/*.csv").files() == [folder / "home/x.csv"]


# URIs


def in_memory(folder: Path, *names: str) -> UPath:
    """Land files in an object store, in a folder of the test."""
    store = UPath(f"memory:/{folder}/store")
    for name in names:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("at,buyer,sku\n")
    return store


@days_in_paths
def test_days_are_found_in_uris(tmp_path, path, first, second):
    store = in_memory(tmp_path, first, second)
    shop = source(tmp_path, f"{store}/{path}")
    assert shop.landed_days() == [NEW_YEAR, MARCH]
    assert [str(file) for file in shop.files(NEW_YEAR)] == [f"{store}/{first}"]
    assert [str(file) for file in shop.files(MARCH)] == [f"{store}/{second}"]
    assert set(shop.files()) == {store / first, store / second}
    assert shop.files(dt.date(2017, 1, 1)) == []


def test_a_uri_and_a_local_path_give_the_same_files(tmp_path):
    day = "2017-01-01"
    complete = [f"{day}/a.csv", f"{day}/b.csv"]
    others = [".c.csv", "_SUCCESS", "d.csv.part", "a.csv.done", "_temporary/f.csv", "deep/er.csv", ".trash/g.csv"]
    names = [*reversed(complete), *(f"{day}/{name}" for name in others)]
    land(tmp_path, *names)
    store = in_memory(tmp_path, *names)
    for path in ("{date:%Y-%m-%d}", "{date:%Y-%m-%d}/", "{date:%Y-%m-%d}/*.csv", "{date:%Y-%m-%d}/**/*.csv"):
        here, there = source(tmp_path, path), source(tmp_path, f"{store}/{path}")
        local = [file.relative_to(str(tmp_path)).as_posix() for file in here.files()]
        assert [str(file) for file in there.files()] == [f"{store}/{name}" for name in local]
        assert set(complete) <= set(local)


@pytest.mark.parametrize("path", ["file://{folder}/{date:%Y-%m-%d}.csv", "local://{date:%Y-%m-%d}.csv"])
def test_a_file_uri_is_a_local_path(tmp_path, path):
    land(tmp_path, "2017-01-01.csv")
    shop = source(tmp_path, path.replace("{folder}", str(tmp_path)))
    assert shop.files() == [tmp_path / "2017-01-01.csv"]
    assert shop.label(shop.files()[0]) == "2017-01-01.csv"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s4://bucket/x.csv", "unknown protocol s4://"),
        ("zip://*.csv::s3://bucket/x.zip", "a chain of protocols"),
        ("sftp://me:secret@host/x.csv", "a path can't have a password"),
    ],
)
def test_an_unsupported_uri_is_an_error_of_the_yaml_file(tmp_path, path, message):
    with pytest.raises(SourceError, match=rf"purchases\.path: {message}"):
        source(tmp_path, path)


def test_the_error_for_a_missing_driver_has_the_path(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    shop = source(tmp_path, "s3://bucket/{date:%Y-%m-%d}.csv", rest="catalog: {path: 's3://bucket/p.csv', " + PRODUCTS)
    for attempt in (shop.files, shop.landed_days, shop.bounds):
        with pytest.raises(SourceError, match=r"^s3://bucket/.*\.csv: the driver .* not installed: Install s3fs"):
            attempt()
    with pytest.raises(SourceError, match=r"^s3://bucket/p\.csv: the driver .* not installed: Install s3fs"):
        shop.catalog_file()


def test_an_error_of_a_driver_becomes_a_source_error(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    shop = source(tmp_path, f"{in_memory(tmp_path)}/*.csv")
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "glob", refuse)
    with pytest.raises(SourceError, match=r"^memory://.*\*\.csv: can't be read: RuntimeError: no credentials"):
        shop.files()


def test_new_files_are_found_although_drivers_cache_listings(tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "invalidate_cache", lambda *_: cleared.append(1))
    source(tmp_path, f"{in_memory(tmp_path)}/*.csv").files()
    assert cleared


# Bounds


def test_an_export_needs_its_first_and_last_day(tmp_path):
    assert source(tmp_path, rest="first_day: 2017-01-01\nlast_day: 2017-02-01").bounds() == (
        dt.date(2017, 1, 1), dt.date(2017, 2, 1),
    )  # fmt: skip
    with pytest.raises(SourceError, match="set first_day and last_day"):
        source(tmp_path).bounds()


def test_first_day_and_last_day_override_the_days_with_files(tmp_path):
    land(tmp_path, "2017-01-01.csv", "2017-01-05.csv")
    day = "{date:%Y-%m-%d}.csv"
    assert source(tmp_path, day, rest="first_day: 2017-01-03").bounds()[0] == dt.date(2017, 1, 3)
    assert source(tmp_path, day, rest="last_day: 2017-12-31").bounds()[1] == dt.date(2017, 12, 31)
    with pytest.raises(SourceError, match="there are files for 2017-01-01 to 2017-01-05, none between"):
        source(tmp_path, day, rest="first_day: 2018-01-01").bounds()


def test_the_error_for_no_files_has_the_path(tmp_path):
    with pytest.raises(SourceError, match=r"no file matches .*/\{date:%Y-%m-%d\}\.csv: land files, or fix"):
        source(tmp_path, "{date:%Y-%m-%d}.csv").bounds()


# The catalog

FEEDS = ["products.csv", "products-1.csv", "products-2.csv", "feeds/31-01-2017.csv", "feeds/01-02-2017.csv"]


@pytest.mark.parametrize(
    ("path", "newest"),
    [
        ("products.csv", "products.csv"),
        ("products-*.csv", "products-2.csv"),
        ("feeds/{date:%d-%m-%Y}.csv", "feeds/01-02-2017.csv"),
    ],
)
def test_the_newest_catalog_file_is_used(tmp_path, path, newest):
    land(tmp_path, *FEEDS)
    shop = source(tmp_path, rest=f"catalog: {{path: '{path}', {PRODUCTS}")
    assert shop.catalog_file() == tmp_path / newest
    store = in_memory(tmp_path, *FEEDS)
    shop = source(tmp_path, rest=f"catalog: {{path: '{store}/{path}', {PRODUCTS}")
    assert shop.catalog_file() == store / newest


def test_a_missing_catalog_file_is_an_error(tmp_path):
    shop = source(tmp_path, rest="catalog: {path: 'products.csv', columns: {product_id: sku}}")
    with pytest.raises(SourceError, match=r"no catalog file matches .*products\.csv"):
        shop.catalog_file()


def test_the_version_changes_only_with_fields_that_change_lines(tmp_path):
    def version(purchases: str = "", rest: str = "") -> str:
        (tmp_path / "shop.yaml").write_text(
            "purchases: {path: log.csv, columns: {customer_id: a, product_id: b, time: c}"
            f"{purchases}}}\nfirst_day: 2017-01-01\n{rest}\n"
        )
        return load_data_source(str(tmp_path / "shop.yaml"), tmp_path).version

    same = ["last_day: 2017-12-31", "description: a shop", "catalog: {path: c.csv, columns: {product_id: sku}}"]
    assert {version(), version(", asset: [warehouse, orders]"), *(version(rest=rest) for rest in same)} == {version()}
    others = [version(", bulk_quantity: none"), version(rest="time_zone: Asia/Tokyo"), version(", exclude: {b: x}")]
    assert len({version(), *others}) == 4
