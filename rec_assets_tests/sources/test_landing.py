import datetime as dt
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.landing import (
    LandedFiles,
    file_fingerprints,
    modified_at,
    newest_whole_day,
    scan,
    scan_catalog,
)
from rec_assets.sources.reader import file_fingerprint
from rec_assets.sources.spec import Source, load_source

DAY, NEXT = dt.date(2017, 1, 1), dt.date(2017, 1, 2)
NOON = 1_483_358_400.0
"""When we look, unless said otherwise: noon of 2 January 2017."""
SETTLE = 60.0


class Zone:
    """A landing zone, on this machine or in a store, whose files are as old as a test wants them to be."""

    def __init__(self, folder: Path, base: UPath) -> None:
        self.folder, self.base = folder, base

    def land(self, name: str, content: str = "at,buyer,sku\n", *, age: float = 1000.0) -> None:
        file = self.base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if isinstance(file, Path):
            os.utime(file, (NOON - age, NOON - age))
        else:
            file.fs.store[file.path].created = dt.datetime.fromtimestamp(NOON - age, tz=dt.timezone.utc)

    def source(self, path: str = "{date:%Y-%m-%d}.csv", rest: str = "") -> Source:
        columns = "columns: {customer_id: buyer, product_id: sku, time: at}"
        (self.folder / "shop.yaml").write_text(f"purchases: {{path: '{self.base}/{path}', {columns}}}\n{rest}\n")
        return load_source(str(self.folder / "shop.yaml"), self.folder / "home")


@pytest.fixture(params=["folder", "store"])
def zone(request, tmp_path) -> Zone:
    return Zone(tmp_path, UPath(tmp_path / "zone") if request.param == "folder" else UPath(f"memory:/{tmp_path}/zone"))


def seen(
    source: Source, known: dict[dt.date, LandedFiles] | None = None, now: float = NOON
) -> dict[dt.date, LandedFiles]:
    return scan(source, known or {}, now=now, settle_seconds=SETTLE)


@pytest.fixture
def files_read(monkeypatch) -> list[str]:
    """Names of the files whose content was read."""
    names: list[str] = []

    def spy(files: list[UPath]) -> str:
        names.extend(file.name for file in files)
        return file_fingerprint(files)

    monkeypatch.setattr("rec_assets.sources.landing.file_fingerprint", spy)
    return names


# What is there, and what changed


def test_the_first_look_finds_every_day_whole_and_tells_their_contents_apart(zone):
    zone.land("2017-01-01.csv", "one")
    zone.land("2017-01-02.csv", "two")
    found = seen(zone.source())
    assert list(found) == [DAY, NEXT]
    assert all(landed.settled and len(landed.fingerprint) == 64 for landed in found.values())
    assert found[DAY].fingerprint != found[NEXT].fingerprint


def test_where_nothing_has_landed_nothing_is_found(zone):
    assert seen(zone.source()) == {}
    assert seen(zone.source("all.csv")) == {}


def test_a_second_look_at_the_same_files_reads_none_of_them(zone, files_read):
    zone.land("2017-01-01.csv")
    first = seen(zone.source())
    assert files_read == ["2017-01-01.csv"]
    assert seen(zone.source(), first) == first
    assert files_read == ["2017-01-01.csv"]


@pytest.mark.parametrize(
    ("content", "age", "same_stamp", "same_fingerprint"),
    [
        ("one", 1000.0, True, True),
        ("one", 500.0, False, True),  # touched
        ("two", 500.0, False, False),
        ("three", 1000.0, False, False),  # another size, at the same time
    ],
)
def test_a_day_has_changed_if_its_content_has(zone, files_read, content, age, same_stamp, same_fingerprint):
    zone.land("2017-01-01.csv", "one", age=1000.0)
    zone.land("2017-01-02.csv", "other")
    first = seen(zone.source())
    files_read.clear()
    zone.land("2017-01-01.csv", content, age=age)
    second = seen(zone.source(), first)
    assert second[NEXT] == first[NEXT]
    assert (second[DAY].stamp == first[DAY].stamp) == same_stamp
    assert (second[DAY].fingerprint == first[DAY].fingerprint) == same_fingerprint
    assert files_read == ([] if same_stamp else ["2017-01-01.csv"])


@pytest.mark.parametrize("name", ["2017-01-01/b.csv", "2017-01-01/a (copy).csv"])
def test_a_second_file_changes_a_day_even_if_it_is_the_first_one_again(zone, name):
    zone.land("2017-01-01/a.csv", "one")
    first = seen(zone.source("{date:%Y-%m-%d}"))
    zone.land(name, "one")
    second = seen(zone.source("{date:%Y-%m-%d}"), first)
    assert second[DAY].settled and second[DAY].fingerprint != first[DAY].fingerprint


def test_a_late_day_is_found_beside_those_known(zone):
    zone.land("2017-01-02.csv", "two")
    first = seen(zone.source())
    zone.land("2017-01-01.csv", "one")
    assert list(seen(zone.source(), first)) == [DAY, NEXT]


def test_days_outside_of_the_source_do_not_count(zone):
    for day in (1, 2, 3):
        zone.land(f"2017-01-0{day}.csv")
    assert list(seen(zone.source(rest="first_day: 2017-01-02\nlast_day: 2017-01-02"))) == [NEXT]


def test_an_export_stands_for_all_days_under_the_last(zone):
    zone.land("a.csv", "one")
    zone.land("b.csv", "two")
    source = zone.source("*.csv", rest="first_day: 2016-01-01\nlast_day: 2017-01-01")
    first = seen(source)
    assert list(first) == [DAY]
    zone.land("b.csv", "new", age=500)
    assert seen(source, first)[DAY].fingerprint != first[DAY].fingerprint
    with pytest.raises(SourceError, match="give first_day and last_day"):
        seen(zone.source("*.csv"))


# Is it whole?


def test_a_file_that_lands_in_two_halves_is_not_read_before_it_has_settled(zone, files_read):
    source = zone.source()
    zone.land("2017-01-01.csv", "first half", age=5)
    growing = seen(source)
    assert growing[DAY].fingerprint == "" and not growing[DAY].settled
    zone.land("2017-01-01.csv", "first half, second half", age=-50)
    still_growing = seen(source, growing, now=NOON + 55)
    assert not still_growing[DAY].settled and still_growing[DAY].stamp != growing[DAY].stamp
    assert files_read == []
    whole = seen(source, still_growing, now=NOON + 50 + SETTLE)
    assert whole[DAY].settled and len(whole[DAY].fingerprint) == 64
    assert whole[DAY].stamp == still_growing[DAY].stamp
    assert files_read == ["2017-01-01.csv"]


def test_a_day_is_whole_when_all_of_its_files_are(zone):
    zone.land("2017-01-01/a.csv", age=1000)
    zone.land("2017-01-01/b.csv", age=5)
    assert not seen(zone.source("{date:%Y-%m-%d}"))[DAY].settled


@pytest.mark.parametrize(
    ("path", "file", "marker", "settled"),
    [
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-01.csv.done", True),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-01.csv._SUCCESS", True),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-02.csv.done", False),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "_SUCCESS", False),  # this folder holds other days too
        ("{date:%Y/%m/%d}", "2017/01/01/a.csv", "2017/01/01/_SUCCESS", True),
        ("{date:%Y/%m/%d}/", "2017/01/01/a.csv", "2017/01/01/_SUCCESS", True),
        ("{date:%Y/%m/%d}/*.csv", "2017/01/01/a.csv", "2017/01/01/_SUCCESS", True),
        ("{date:%Y/%m/%d}/*.csv", "2017/01/01/a.csv", "2017/01/01/a.csv.done", True),
        ("{date:%Y/%m/%d}/*.csv", "2017/01/01/a.csv", "2017/01/_SUCCESS", False),
        ("{date:%Y/%m}/{date:%d}/till*/*.csv", "2017/01/01/till1/a.csv", "2017/01/01/_SUCCESS", True),
        ("{date:%Y/%m}/{date:%d}/till*/*.csv", "2017/01/01/till1/a.csv", "2017/01/01/till1/_SUCCESS", True),
        ("{date:%Y}/{date:%Y-%m-%d}.csv", "2017/2017-01-01.csv", "2017/_SUCCESS", False),
        ("**/{date:%Y-%m-%d}/*.csv", "north/2017-01-01/a.csv", "north/2017-01-01/_SUCCESS", True),
    ],
)
def test_a_marker_settles_at_once_what_it_speaks_of(zone, path, file, marker, settled):
    zone.land(file, age=5)
    zone.land(marker, "", age=5)
    assert seen(zone.source(path))[DAY].settled == settled


def test_a_file_that_lands_after_the_marker_must_settle_like_any_other(zone):
    zone.land("2017-01-01/a.csv", age=20)
    zone.land("2017-01-01/_SUCCESS", "", age=15)
    source = zone.source("{date:%Y-%m-%d}")
    assert seen(source)[DAY].settled
    zone.land("2017-01-01/b.csv", age=5)
    assert not seen(source)[DAY].settled
    assert seen(source, now=NOON + SETTLE)[DAY].settled


def test_a_time_in_the_future_is_not_settled_until_a_marker_says_so_or_it_has_come(zone):
    zone.land("2017-01-01.csv", age=-3600)
    assert not seen(zone.source())[DAY].settled
    assert seen(zone.source(), now=NOON + 3600 + SETTLE)[DAY].settled
    zone.land("2017-01-01.csv.done", "", age=5)
    assert seen(zone.source())[DAY].settled


# The catalog and lineage


def test_the_newest_catalog_is_looked_at_like_a_day(zone, files_read):
    rest = f"catalog: {{path: '{zone.base}/products-*.csv', columns: {{product_id: sku}}}}"
    source = zone.source(rest=rest)

    def seen_catalog(known: LandedFiles | None = None) -> LandedFiles | None:
        return scan_catalog(source, known, now=NOON, settle_seconds=SETTLE)

    assert seen_catalog() is None
    zone.land("products-1.csv", "one")
    first = seen_catalog()
    assert first and first.settled and seen_catalog(first) == first
    zone.land("products-2.csv", "two", age=5)
    growing = seen_catalog(first)
    assert growing and not growing.settled
    assert files_read == ["products-1.csv"]
    zone.land("products-2.csv", "two")
    second = seen_catalog(growing)
    assert second and second.settled and second.fingerprint != first.fingerprint


def test_a_source_without_a_catalog_has_nothing_to_look_at(zone):
    assert scan_catalog(zone.source(), None, now=NOON, settle_seconds=SETTLE) is None


def test_files_are_named_in_lineage_as_in_the_raw_rows(zone):
    zone.land("2017-01-01/a.csv", "one")
    zone.land("2017-01-01/b.csv", "one")
    zone.land("2017-01-02/a.csv", "two")
    source = zone.source("{date:%Y-%m-%d}/*.csv")
    base = "zone" if isinstance(zone.base, Path) else str(zone.base)
    found = file_fingerprints(source, DAY)
    assert list(found) == [f"{base}/2017-01-01/a.csv", f"{base}/2017-01-01/b.csv"]
    assert set(found.values()) == {"7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}
    assert len(file_fingerprints(source, None)) == 3


# What drivers tell

MEMORY_INFO = MemoryFileSystem.info
AT_NOON = dt.datetime.fromtimestamp(NOON, tz=dt.timezone.utc)


@pytest.mark.parametrize(
    "told",
    [
        {"mtime": NOON},
        {"mtime": AT_NOON},
        {"LastModified": AT_NOON, "ETag": '"1"'},
        {"last_modified": AT_NOON.replace(tzinfo=None), "etag": "1"},
        {"updated": "2017-01-02T12:00:00.000Z", "created": "2016-12-01T00:00:00.000Z"},
        {"modificationTime": int(NOON * 1000)},
        {"created": AT_NOON},
    ],
)
def test_the_time_of_a_file_is_known_however_its_driver_calls_it(tmp_path, monkeypatch, told):
    zone = Zone(tmp_path, UPath(f"memory:/{tmp_path}/zone"))
    zone.land("2017-01-01.csv")
    driver_tells(monkeypatch, told)
    assert modified_at(zone.base / "2017-01-01.csv") == NOON


@pytest.mark.parametrize("told", [{}, {"mtime": None}, {"updated": "yesterday"}])
def test_where_no_time_is_told_files_count_as_whole_and_change_with_their_size_or_tag(tmp_path, monkeypatch, told):
    zone = Zone(tmp_path, UPath(f"memory:/{tmp_path}/zone"))
    zone.land("2017-01-01.csv", "one")
    driver_tells(monkeypatch, told)
    assert modified_at(zone.base / "2017-01-01.csv") is None
    first = seen(zone.source())
    assert first[DAY].settled and seen(zone.source(), first) == first
    driver_tells(monkeypatch, {**told, "ETag": "2"})
    assert seen(zone.source(), first)[DAY].stamp != first[DAY].stamp
    zone.land("2017-01-01.csv", "one and two")
    assert seen(zone.source(), first)[DAY].fingerprint != first[DAY].fingerprint


def driver_tells(monkeypatch: pytest.MonkeyPatch, told: dict[str, object]) -> None:
    def info(self: MemoryFileSystem, path: str, **_: object) -> dict[str, object]:
        about = MEMORY_INFO(self, path)
        return {name: about[name] for name in ("name", "type", "size")} | told

    monkeypatch.setattr(MemoryFileSystem, "info", info)


@pytest.mark.parametrize(
    ("landed", "newest"),
    [
        ({}, None),
        ({"2017-01-01": 1000.0, "2017-01-02": 1000.0}, NEXT),
        ({"2017-01-01": 1000.0, "2017-01-02": 5.0}, DAY),
        ({"2017-01-01": 5.0}, None),
        ({"2017-01-01": 1000.0, "2071-01-01": 1000.0}, DAY),
    ],
    ids=["nothing", "both whole", "the newer one is growing", "the only one is growing", "a mistyped year"],
)
def test_the_newest_whole_day_is_found_without_reading_any(zone, files_read, landed, newest):
    for day, age in landed.items():
        zone.land(f"{day}.csv", age=age)
    assert newest_whole_day(zone.source(), now=NOON, settle_seconds=SETTLE) == newest
    assert files_read == []
