"""`python -m benchmarks.quality`: measure the hybrid and its peers on the same splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd

from benchmarks import report
from benchmarks.datasets import DatasetMissing
from benchmarks.models import HYBRID, MODELS
from benchmarks.protocols import KS, REPORT, Split
from benchmarks.running import COLUMNS, measure, merge, versus_best_peer
from benchmarks.tune import read_chosen

FOLDER = Path(__file__).with_name("results")
PUBLISHED = Path(__file__).with_name("published.csv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only this model; can be repeated. Results of others are kept.")
@click.option(
    "--protocol", "wanted", multiple=True, help="Only protocols with this text in their name; can be repeated."
)
def main(only: Sequence[str], wanted: Sequence[str]) -> None:
    """Measure all models, and write results, comparison, table and plot."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "quality.csv"
    measured, now = _read(file), set[tuple[str, str]]()
    for dataset, splits_of in REPORT.items():
        try:
            splits = [split for split in splits_of() if _is_wanted(split, wanted)]
        except DatasetMissing as error:
            click.echo(f"skipped: {error}", err=True)
            continue
        for model in MODELS:
            asked = [split for split in splits if model.runs_on(split)]
            if not asked or (only and model.name not in only):
                continue
            try:
                for rows in measure(model, asked, read_chosen()):
                    if model.name == HYBRID:
                        now |= set(zip(rows["dataset"], rows["protocol"], strict=True))
                    measured = merge(measured, rows)
                    _in_order(measured).to_csv(file, index=False)
            except ModuleNotFoundError as error:
                click.echo(f"skipped: {model.name} on {dataset}: {error}", err=True)
    if measured.empty:
        raise click.ClickException("nothing was measured")
    ordered = _in_order(measured)
    versus = _with_earlier(versus_best_peer(ordered), FOLDER / "versus_best_peer.csv", now, ordered)
    ordered = _in_order(pd.concat([ordered, _read(PUBLISHED)], ignore_index=True))
    ordered.to_csv(file, index=False)
    versus.to_csv(FOLDER / "versus_best_peer.csv", index=False)
    report.write_readme(ordered, versus)
    report.figure(ordered).savefig(FOLDER / "quality.png", dpi=110, metadata={"Software": None})
    click.echo(report.table(ordered))
    if len(versus):
        click.echo(f"\n{report.versus_table(versus)}")


def _is_wanted(split: Split, wanted: Sequence[str]) -> bool:
    return not wanted or any(text in f"{split.dataset}: {split.protocol}" for text in wanted)


def _read(file: Path) -> pd.DataFrame:
    """Own results; for the file PUBLISHED, results of others."""
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.read_csv(file)
    return rows if file == PUBLISHED else rows[~rows["model"].str.endswith(report.PUBLISHED)]


def _with_earlier(versus: pd.DataFrame, file: Path, now: set[tuple[str, str]], ordered: pd.DataFrame) -> pd.DataFrame:
    """`versus` and what the file has of protocols whose hybrid was not measured now, in the order of the results.

    Values of single customers are only where a protocol was measured.
    """
    key = ["dataset", "protocol"]
    if file.is_file():
        old = pd.read_csv(file)
        again = pd.MultiIndex.from_frame(old[key]).isin(
            [*now, *zip(versus["dataset"], versus["protocol"], strict=True)]
        )
        versus = pd.concat([versus, old[~again]], ignore_index=True)
    return ordered[key].drop_duplicates().merge(versus, on=key)


def _in_order(results: pd.DataFrame) -> pd.DataFrame:
    """Sort by data set, protocol and model, in the order of their definitions."""
    names = [model.name for model in MODELS]
    tasks = list(KS)
    keys = pd.DataFrame(
        {
            "dataset": results["dataset"].map(list(REPORT).index),
            "task": results["protocol"].str.split(", ").str[0].map(tasks.index),
            # Days: newest first. Orders: alphabetically.
            "variant": results["protocol"].str.split(", ").str[1].map(_newest_first),
            "model": results["model"].map(lambda name: names.index(name) if name in names else len(names)),
        },
        index=results.index,
    )
    return results.loc[keys.sort_values(list(keys.columns), kind="stable").index].reset_index(drop=True)


def _newest_first(variant: str) -> str:
    day = pd.to_datetime(variant, errors="coerce")
    return variant if pd.isna(day) else f"{(pd.Timestamp.max - day).days:06d}"


if __name__ == "__main__":
    main()
