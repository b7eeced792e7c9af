import datetime as dt
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.landing import (
    LandedFiles,
    file_fingerprint,
    file_fingerprints,
    modified_at,
    newest_complete_day,
    scan,
    scan_catalog,
)
from rec_assets.sources.spec import DataSource, load_data_source

DAY, NEXT = dt.date(2017, 1, 1), dt.date(2017, 1, 2)
NOON = 1_483_358_400.0
"""Default time of a scan: noon of 2 January 2017."""
SETTLE = 60.0


class Zone:
    """A landing zone, local or in an object store, whose files have a given age."""

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

    def source(self, path: str = "{date:%Y-%m-%d}.csv", rest: str = "") -> DataSource:
        columns = "columns: {customer_id: buyer, product_id: sku, time: at}"
        (self.folder / "shop.yaml").write_text(f"purchases: {{path: '{self.base}/{path}', {columns}}}\n{rest}\n")
        return load_data_source(str(self.folder / "shop.yaml"), self.folder / "home")


@pytest.fixture(params=["folder", "store"])
def zone(request, tmp_path) -> Zone:
    return Zone(tmp_path, UPath(tmp_path / "zone") if request.param == "folder" else UPath(f"memory:/{tmp_path}/zone"))


def scan_purchases(
    source: DataSource, known: dict[dt.date, LandedFiles] | None = None, now: float = NOON
) -> dict[dt.date, LandedFiles]:
    return scan(source, known or {}, now=now, settle_seconds=SETTLE)


@pytest.fixture
def files_read(monkeypatch) -> list[str]:
    """Names of the files whose content was read."""
    names: list[str] = []

    def spy(file: UPath) -> str:
        names.append(file.name)
        return file_fingerprint(file)

    monkeypatch.setattr("rec_assets.sources.landing.file_fingerprint", spy)
    return names


# Changed files


def test_the_first_scan_finds_all_days_with_their_fingerprints(zone):
    zone.land("2017-01-01.csv", "one")
    zone.land("2017-01-02.csv", "two")
    result = scan_purchases(zone.source())
    assert list(result) == [DAY, NEXT]
    assert all(landed.is_complete and len(landed.fingerprint) == 64 for landed in result.values())
    assert result[DAY].fingerprint != result[NEXT].fingerprint


def test_an_empty_landing_zone_has_no_days(zone):
    assert scan_purchases(zone.source()) == {}
    assert scan_purchases(zone.source("all.csv")) == {}


def test_a_second_scan_does_not_read_unchanged_files(zone, files_read):
    zone.land("2017-01-01.csv")
    first = scan_purchases(zone.source())
    assert files_read == ["2017-01-01.csv"]
    assert scan_purchases(zone.source(), first) == first
    assert files_read == ["2017-01-01.csv"]


@pytest.mark.parametrize(
    ("content", "age", "same_hash", "same_fingerprint"),
    [
        ("one", 1000.0, True, True),
        ("one", 500.0, False, True),  # touched
        ("two", 500.0, False, False),
        ("three", 1000.0, False, False),  # another size, with the same time
    ],
)
def test_a_fingerprint_changes_with_the_content(zone, files_read, content, age, same_hash, same_fingerprint):
    zone.land("2017-01-01.csv", "one", age=1000.0)
    zone.land("2017-01-02.csv", "other")
    first = scan_purchases(zone.source())
    files_read.clear()
    zone.land("2017-01-01.csv", content, age=age)
    second = scan_purchases(zone.source(), first)
    assert second[NEXT] == first[NEXT]
    assert (second[DAY].metadata_hash == first[DAY].metadata_hash) == same_hash
    assert (second[DAY].fingerprint == first[DAY].fingerprint) == same_fingerprint
    assert files_read == ([] if same_hash else ["2017-01-01.csv"])


@pytest.mark.parametrize("name", ["2017-01-01/b.csv", "2017-01-01/a (copy).csv"])
def test_a_second_file_changes_the_fingerprint_even_if_it_is_a_copy(zone, name):
    zone.land("2017-01-01/a.csv", "one")
    first = scan_purchases(zone.source("{date:%Y-%m-%d}"))
    zone.land(name, "one")
    second = scan_purchases(zone.source("{date:%Y-%m-%d}"), first)
    assert second[DAY].is_complete and second[DAY].fingerprint != first[DAY].fingerprint


def test_a_late_day_is_found(zone):
    zone.land("2017-01-02.csv", "two")
    first = scan_purchases(zone.source())
    zone.land("2017-01-01.csv", "one")
    assert list(scan_purchases(zone.source(), first)) == [DAY, NEXT]


def test_days_before_first_day_and_after_last_day_are_ignored(zone):
    for day in (1, 2, 3):
        zone.land(f"2017-01-0{day}.csv")
    assert list(scan_purchases(zone.source(rest="first_day: 2017-01-02\nlast_day: 2017-01-02"))) == [NEXT]


def test_an_export_is_one_entry_under_its_last_day(zone):
    zone.land("a.csv", "one")
    zone.land("b.csv", "two")
    source = zone.source("*.csv", rest="first_day: 2016-01-01\nlast_day: 2017-01-01")
    first = scan_purchases(source)
    assert list(first) == [DAY]
    zone.land("b.csv", "new", age=500)
    assert scan_purchases(source, first)[DAY].fingerprint != first[DAY].fingerprint
    with pytest.raises(SourceError, match="set first_day and last_day"):
        scan_purchases(zone.source("*.csv"))


# Complete files


def test_a_growing_file_is_not_read_before_it_is_complete(zone, files_read):
    source = zone.source()
    zone.land("2017-01-01.csv", "first half", age=5)
    growing = scan_purchases(source)
    assert growing[DAY].fingerprint == "" and not growing[DAY].is_complete
    zone.land("2017-01-01.csv", "first half, second half", age=-50)
    still_growing = scan_purchases(source, growing, now=NOON + 55)
    assert not still_growing[DAY].is_complete and still_growing[DAY].metadata_hash != growing[DAY].metadata_hash
    assert files_read == []
    complete = scan_purchases(source, still_growing, now=NOON + 50 + SETTLE)
    assert complete[DAY].is_complete and len(complete[DAY].fingerprint) == 64
    assert complete[DAY].metadata_hash == still_growing[DAY].metadata_hash
    assert files_read == ["2017-01-01.csv"]


def test_a_day_is_complete_if_all_its_files_are_complete(zone):
    zone.land("2017-01-01/a.csv", age=1000)
    zone.land("2017-01-01/b.csv", age=5)
    assert not scan_purchases(zone.source("{date:%Y-%m-%d}"))[DAY].is_complete


@pytest.mark.parametrize(
    ("path", "file", "marker", "complete"),
    [
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-01.csv.done", True),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-01.csv._SUCCESS", True),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "2017-01-02.csv.done", False),
        ("{date:%Y-%m-%d}.csv", "2017-01-01.csv", "_SUCCESS", False),  # this folder has other days, too
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
def test_a_success_marker_completes_its_files_at_once(zone, path, file, marker, complete):
    zone.land(file, age=5)
    zone.land(marker, "", age=5)
    assert scan_purchases(zone.source(path))[DAY].is_complete == complete


def test_a_file_that_lands_after_the_marker_is_not_complete(zone):
    zone.land("2017-01-01/a.csv", age=20)
    zone.land("2017-01-01/_SUCCESS", "", age=15)
    source = zone.source("{date:%Y-%m-%d}")
    assert scan_purchases(source)[DAY].is_complete
    zone.land("2017-01-01/b.csv", age=5)
    assert not scan_purchases(source)[DAY].is_complete
    assert scan_purchases(source, now=NOON + SETTLE)[DAY].is_complete


def test_a_file_with_a_future_time_settles_with_a_marker_or_after_that_time(zone):
    zone.land("2017-01-01.csv", age=-3600)
    assert not scan_purchases(zone.source())[DAY].is_complete
    assert scan_purchases(zone.source(), now=NOON + 3600 + SETTLE)[DAY].is_complete
    zone.land("2017-01-01.csv.done", "", age=5)
    assert scan_purchases(zone.source())[DAY].is_complete


# The catalog and lineage


def test_the_newest_catalog_is_scanned_like_a_day(zone, files_read):
    rest = f"catalog: {{path: '{zone.base}/products-*.csv', columns: {{product_id: sku}}}}"
    source = zone.source(rest=rest)

    def scan_newest_catalog(known: LandedFiles | None = None) -> LandedFiles | None:
        return scan_catalog(source, known, now=NOON, settle_seconds=SETTLE)

    assert scan_newest_catalog() is None
    zone.land("products-1.csv", "one")
    first = scan_newest_catalog()
    assert first and first.is_complete and scan_newest_catalog(first) == first
    zone.land("products-2.csv", "two", age=5)
    growing = scan_newest_catalog(first)
    assert growing and not growing.is_complete
    assert files_read == ["products-1.csv"]
    zone.land("products-2.csv", "two")
    second = scan_newest_catalog(growing)
    assert second and second.is_complete and second.fingerprint != first.fingerprint


def test_a_data_source_without_a_catalog_has_no_catalog_scan(zone):
    assert scan_catalog(zone.source(), None, now=NOON, settle_seconds=SETTLE) is None


def test_fingerprints_have_the_file_names_of_the_raw_lines(zone):
    zone.land("2017-01-01/a.csv", "one")
    zone.land("2017-01-01/b.csv", "one")
    zone.land("2017-01-02/a.csv", "two")
    source = zone.source("{date:%Y-%m-%d}/*.csv")
    base = "zone" if isinstance(zone.base, Path) else str(zone.base)
    result = file_fingerprints(source, DAY)
    assert list(result) == [f"{base}/2017-01-01/a.csv", f"{base}/2017-01-01/b.csv"]
    assert set(result.values()) == {"7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}
    assert len(file_fingerprints(source, None)) == 3


# File metadata of drivers

MEMORY_INFO = MemoryFileSystem.info
AT_NOON = dt.datetime.fromtimestamp(NOON, tz=dt.timezone.utc)


@pytest.mark.parametrize(
    "metadata",
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
def test_the_modification_time_is_found_under_any_name(tmp_path, monkeypatch, metadata):
    zone = Zone(tmp_path, UPath(f"memory:/{tmp_path}/zone"))
    zone.land("2017-01-01.csv")
    set_driver_info(monkeypatch, metadata)
    assert modified_at(zone.base / "2017-01-01.csv") == NOON


@pytest.mark.parametrize("metadata", [{}, {"mtime": None}, {"updated": "yesterday"}])
def test_without_a_time_files_are_complete_and_change_with_size_or_tag(tmp_path, monkeypatch, metadata):
    zone = Zone(tmp_path, UPath(f"memory:/{tmp_path}/zone"))
    zone.land("2017-01-01.csv", "one")
    set_driver_info(monkeypatch, metadata)
    assert modified_at(zone.base / "2017-01-01.csv") is None
    first = scan_purchases(zone.source())
    assert first[DAY].is_complete and scan_purchases(zone.source(), first) == first
    set_driver_info(monkeypatch, {**metadata, "ETag": "2"})
    assert scan_purchases(zone.source(), first)[DAY].metadata_hash != first[DAY].metadata_hash
    zone.land("2017-01-01.csv", "one and two")
    assert scan_purchases(zone.source(), first)[DAY].fingerprint != first[DAY].fingerprint


def set_driver_info(monkeypatch: pytest.MonkeyPatch, metadata: dict[str, object]) -> None:
    def info(self: MemoryFileSystem, path: str, **_: object) -> dict[str, object]:
        about = MEMORY_INFO(self, path)
        return {name: about[name] for name in ("name", "type", "size")} | metadata

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
    ids=["nothing", "both complete", "the newer day is growing", "the only day is growing", "a wrong year"],
)
def test_the_newest_complete_day_is_found_without_reading_files(zone, files_read, landed, newest):
    for day, age in landed.items():
        zone.land(f"{day}.csv", age=age)
    assert newest_complete_day(zone.source(), now=NOON, settle_seconds=SETTLE) == newest
    assert files_read == []
