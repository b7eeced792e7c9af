"""A test double of Spark with Delta and Unity Catalog, which can't run here: Delta's jars are not installed.

It stands in for what `resources/unity_catalog.py` uses: `read.option("versionAsOf").table`, `write.format("delta")`
with `replaceWhere` and `saveAsTable`, and the statements in `statement`. Everything else is real Spark, on tables in a
folder that the package `deltalake` writes. A statement or option that it does not know is an error. It has no
permissions, no concurrent writers, and no managed storage.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameReader, DataFrameWriter, SparkSession

from rec_assets.recsys.spark.arrow_rows import arrow_type, spark_type

COLUMN = re.compile(r"`(\w+)` ([\w<>]+)(?: COMMENT '((?:[^'\\]|\\.)*)')?")


class DeltaDouble:
    """Tables `catalog.schema.name` as folders `catalog/schema/name`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.statements = folder, list[str]()
        self.hours_older: dict[int, int] = {}
        """Version → hours by which its commit is older than it is."""
        double, option = self, DataFrameReader.option

        def read_option(reader: DataFrameReader, name: str, value: Any) -> DataFrameReader:
            if name == "versionAsOf":
                reader.version = value  # type: ignore[attr-defined]
                return reader
            return option(reader, name, value)

        def remember(writer: DataFrameWriter, name: str, value: Any) -> DataFrameWriter:
            writer.__dict__.setdefault("asked", {})[name] = value
            return writer

        patch.setattr(DataFrameReader, "option", read_option)
        patch.setattr(DataFrameReader, "table", lambda reader, name: double.read(reader, name))
        patch.setattr(DataFrameWriter, "option", remember)
        patch.setattr(DataFrameWriter, "format", lambda writer, name: remember(writer, "format", name))
        patch.setattr(DataFrameWriter, "mode", lambda writer, name: remember(writer, "mode", name))
        patch.setattr(DataFrameWriter, "saveAsTable", lambda writer, name: double.save(writer, name))
        patch.setattr(SparkSession, "sql", lambda _, text: SimpleNamespace(collect=lambda: double.statement(text)))

    def path(self, name: str) -> str:
        """Folder of a table, from its quoted name."""
        return str(self.folder.joinpath(*re.findall(r"`([^`]+)`", name)))

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """A table. Raises AnalysisException if it does not exist."""
        try:
            return DeltaTable(self.path(name), version)
        except DeltaError:
            raise AnalysisException("[TABLE_OR_VIEW_NOT_FOUND]") from None

    def read(self, reader: DataFrameReader, name: str) -> DataFrame:
        """`read.option("versionAsOf", n).table(name)`."""
        table = self.open(name, reader.__dict__.pop("version", None))
        types = ", ".join(f"`{field.name}` {spark_type(field.type)}" for field in pa.schema(table.schema().to_arrow()))
        nothing = self.folder / "nothing"
        nothing.mkdir(exist_ok=True)
        if files := table.file_uris():
            return reader._spark.read.schema(types).option("basePath", self.path(name)).parquet(*files)
        return reader._spark.read.schema(types).parquet(str(nothing))

    def save(self, writer: DataFrameWriter, name: str) -> None:
        """`write.format("delta").mode("overwrite").option("replaceWhere", where).saveAsTable(name)`."""
        asked = writer.__dict__["asked"]
        assert asked.keys() == {"format", "mode", "mergeSchema", "replaceWhere"}, asked
        assert (asked["format"], asked["mode"], asked["mergeSchema"]) == ("delta", "overwrite", "true")
        where = None if asked["replaceWhere"] == "true" else asked["replaceWhere"].replace("DATE'", "'")
        rows = writer._df.toArrow()
        write_deltalake(self.path(name), rows, mode="overwrite", predicate=where, schema_mode="merge")

    def statement(self, text: str) -> list[Any]:
        """Rows of a statement."""
        self.statements.append(text)
        if match := re.fullmatch(r"SHOW TABLES IN `(\w+)`\.`(\w+)`", text):
            return [SimpleNamespace(tableName=each.name) for each in (self.folder / match[1] / match[2]).glob("*")]
        if match := re.fullmatch(
            r"CREATE TABLE IF NOT EXISTS (\S+) \((.*)\) USING delta( PARTITIONED BY \(date\))?", text
        ):
            columns = [pa.field(name, arrow_type(type_), metadata={"comment": comment} if comment else None)
                       for name, type_, comment in COLUMN.findall(match[2])]  # fmt: skip
            without_comments = re.sub(r" COMMENT '(?:[^'\\]|\\.)*'", "", match[2])
            assert without_comments.count(",") == len(columns) - 1, text
            by = ["date"] if match[3] else None
            DeltaTable.create(self.path(match[1]), Schema.from_arrow(pa.schema(columns)), "ignore", by)
            return []
        match = re.fullmatch(rf"({'|'.join(KNOWN)}) (\S+)(.*)", text)
        assert match, f"unknown statement: {text}"
        command, name, rest = match.groups()
        table = self.open(name)
        if command == "DESCRIBE HISTORY":
            found = [
                SimpleNamespace(version=each["version"], timestamp=_Time(each["timestamp"] - 3_600_000 * older))
                for each in table.history()
                for older in [self.hours_older.get(each["version"], 0)]
            ]
            return found[:1] if rest == " LIMIT 1" else found
        if command == "DESCRIBE DETAIL":
            about = table.metadata()
            return [SimpleNamespace(partitionColumns=about.partition_columns, properties=about.configuration)]
        if command == "DELETE FROM":
            table.delete(rest.removeprefix(" WHERE ").replace("DATE'", "'"))
        elif command == "ALTER TABLE":
            key, value = re.fullmatch(r" SET TBLPROPERTIES \('(.+)' = '(.*)'\)", rest).groups()  # type: ignore[union-attr]
            table.alter.set_table_properties({key: value}, raise_if_not_exists=False)
        elif command == "VACUUM":
            hours = int(re.fullmatch(r" RETAIN (\d+) HOURS( DRY RUN)?", rest)[1])  # type: ignore[index]
            files = table.vacuum(hours, "DRY" in rest, enforce_retention_duration=False)
            return [SimpleNamespace(path=file) for file in files]
        return []


KNOWN = ("DESCRIBE HISTORY", "DESCRIBE DETAIL", "DELETE FROM", "ALTER TABLE", "VACUUM")


class _Time(int):
    """Milliseconds since the epoch, as Spark's timestamps are used here."""

    def timestamp(self) -> float:
        return self / 1000
