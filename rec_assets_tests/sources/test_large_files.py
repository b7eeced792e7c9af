"""A large file is read in batches, and a very large one in parts: the lines are those of the file read at once."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from rec_assets.sources import csv_rows, formats, parquet_rows
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import purchase_splits, read_file
from rec_assets_tests.sources.reading import COLUMNS, DAY, HEADER, log, shop, write

ROWS = 2000


def lines(plain: str = "plain") -> list[str]:
    """CSV lines whose product names have quotes, delimiters and line breaks."""
    names = ['"Mug ""blue"", small"', '"two\nlines"', plain, '5" pipe', '"a\r\nb"', '""']
    return [f"2017-01-01 10:{n % 60:02},ann,A{n},r{n // 3},{n % 3 + 1},1.50,{names[n % 6]}" for n in range(ROWS)]


def read(source, path) -> pa.Table:
    return pa.concat_tables(read_file(source, path, DAY))


def read_small(monkeypatch, source, path, size=5000) -> list[pa.Table]:
    """The batches of a file if a batch has some thousand bytes."""
    monkeypatch.setattr(formats.read_batches, "__defaults__", (formats.WHOLE, size))
    monkeypatch.setattr("rec_assets.sources.reader.BATCH_BYTES", size)
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 100)
    return [batch for split in purchase_splits(source, path) for batch in read_file(source, path, DAY, split)]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["2017-01-01.csv", "2017-01-01.csv.gz"])
def test_csv_in_batches(tmp_path, monkeypatch, name, ending):
    import gzip

    content = ending.join([f"{HEADER},name", *lines()]).encode()
    source = shop(tmp_path, columns=f"{COLUMNS}, title: name", path=name.replace("2017-01-01", "{date:%Y-%m-%d}"))
    path = UPath(write(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name))
    whole = read(source, path)
    assert len(whole) == ROWS and whole["title"][1].as_py() == "two\nlines"
    batches = read_small(monkeypatch, source, path)
    assert len(batches) > 10
    assert pa.concat_tables(batches).equals(whole)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_csv_of_another_encoding_in_batches(tmp_path, monkeypatch, encoding):
    source = shop(tmp_path, columns=f"{COLUMNS}, title: name", purchases=f"encoding: {encoding}")
    path = UPath(write(tmp_path, "\n".join([f"{HEADER},name", *lines("café")]).encode(encoding)))
    whole = read(source, path)
    assert pa.concat_tables(read_small(monkeypatch, source, path)).equals(whole)


def test_an_error_names_the_row_of_the_file(tmp_path, monkeypatch):
    source = shop(tmp_path)
    path = UPath(write(tmp_path, log(*lines()[:0], *["2017-01-01 10:00,ann,A1,r1,2,1.50"] * 900, "a,b", "c,d,e,f,g,h")))
    with pytest.raises(SourceError) as whole:
        read(source, path)
    assert "Row #902" in str(whole.value)
    with pytest.raises(SourceError) as batched:
        read_small(monkeypatch, source, path)
    assert str(batched.value) == str(whole.value)


def test_a_row_without_an_end_is_not_read_to_the_end_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_RECORD_BYTES", 12_000)
    source = shop(tmp_path)
    path = UPath(
        write(tmp_path, log('2017-01-01 10:00,"ann,A1,r1,2,1.50', *["2017-01-01 10:00,ann,A1,r1,2,1.50"] * 900))
    )
    with pytest.raises(SourceError, match=r"2017-01-01\.csv: the row after row 0 has no end: is each quote closed"):
        read_small(monkeypatch, source, path)


def test_a_quote_that_is_not_closed(tmp_path, monkeypatch):
    source = shop(tmp_path)
    rows = ["2017-01-01 10:00,ann,A1,r1,2,1.50"] * 900
    rows[500] = '2017-01-01 10:00,"ann,A1,r1,2,1.50'
    path = UPath(write(tmp_path, log(*rows)))
    for reader in (read, lambda *args: read_small(monkeypatch, *args)):
        with pytest.raises(SourceError, match=r"2017-01-01\.csv: .*quote"):
            reader(source, path)


def records() -> list[dict[str, object]]:
    """Records that omit fields, some of which come late in the file."""
    rows = []
    for n in range(ROWS):
        row = {"at": "2017-01-01 10:00", "buyer": f"ann é{n}", "sku": f"A{n}", "receipt": f"r{n}", "n": 1, "price": 1.5}
        rows.append(row | ({"note": "late"} if n > 1500 else {}) | ({"color": "red"} if n % 7 == 0 else {}))
        if n % 11 == 0:
            del row["receipt"]
    return rows


def test_jsonl_in_parts(tmp_path, monkeypatch):
    source = shop(tmp_path, path="{date:%Y-%m-%d}.jsonl", purchases="format: jsonl")
    text = [json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(records())]
    text[3:3] = ["", "  "]
    text += [" "] * 30_000  # the last part has no rows
    path = UPath(write(tmp_path, "\n".join(text), "2017-01-01.jsonl"))
    whole = read(source, path)
    monkeypatch.setattr("rec_assets.sources.batches.SPLIT_BYTES", 40_000)
    parts = purchase_splits(source, path)
    assert len(parts) > 3
    batches = pa.concat_tables(read_small(monkeypatch, source, path))
    assert batches.drop_columns("line").equals(whole.drop_columns("line"))
    assert [*map(_filled, batches["line"].to_pylist())] == [*map(_filled, whole["line"].to_pylist())]

    text[1700] = "{nonsense"
    write(tmp_path, "\n".join(text), "2017-01-01.jsonl")
    with pytest.raises(SourceError, match="line 1701 is not JSON"):
        read_small(monkeypatch, source, path)


def _filled(line: str) -> dict[str, str]:
    """The fields of a line without nulls: a batch does not know fields that only later ones have."""
    return {name: value for name, value in json.loads(line).items() if value is not None}


def test_parquet_in_parts(tmp_path, monkeypatch):
    source = shop(tmp_path, path="{date:%Y-%m-%d}.parquet", purchases="format: parquet")
    table = pa.Table.from_pylist(
        [{"at": "2017-01-01 10:00", "buyer": float(n) if n % 5 else None, "sku": n / 2 if n > 1800 else float(n),
          "receipt": n, "n": 1, "price": 1.5} for n in range(ROWS)]
    )  # fmt: skip
    pq.write_table(table, tmp_path / "2017-01-01.parquet", row_group_size=300)
    path = UPath(tmp_path / "2017-01-01.parquet")
    whole = read(source, path)
    assert whole["customer_id"][1].as_py() == "1", "ids that are whole in all the file"
    monkeypatch.setattr("rec_assets.sources.batches.SPLIT_BYTES", 2500)
    assert len(purchase_splits(source, path)) > 3
    batches = pa.concat_tables(read_small(monkeypatch, source, path, size=3000))
    assert batches["source_row"].to_pylist() == list(range(1, ROWS + 1))
    assert batches["customer_id"].equals(whole["customer_id"])
    assert batches["product_id"].slice(0, 1800).to_pylist() == [str(n) for n in range(1800)], "the first batch decides"


def test_the_first_batch_decides_how_numbers_are_written(tmp_path, monkeypatch):
    rows = [f'2017-01-01 10:00,ann,A1,r1,1,"1,{n % 1000:03}"' for n in range(ROWS)]
    rows += ["2017-01-01 10:00,ann,A1,r1,1,nonsense"] * ROWS
    source, path = shop(tmp_path), UPath(write(tmp_path, log(*rows)))
    prices = pa.concat_tables(read_small(monkeypatch, source, path))["unit_price"].to_numpy()
    assert prices[:ROWS].tolist() == [1000 + n % 1000 for n in range(ROWS)]
    assert np.isnan(prices[ROWS:]).all(), "cleaning rejects these lines"


def test_a_file_with_order_columns_is_one_batch(tmp_path, monkeypatch):
    rows = ["2017-01-01 10:00,ann,A1,r1,1,2", *["2017-01-01 10:00,,A1,r1,1,2"] * ROWS]
    source = shop(tmp_path, purchases="order_columns: [buyer]")
    path = UPath(write(tmp_path, log(*rows)))
    assert set(pa.concat_tables(read_small(monkeypatch, source, path))["customer_id"].to_pylist()) == {"ann"}
