"""Commands that show results: recommend, lineage, rollback; and the summary at the end of bootstrap."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from rec_assets.settings import Settings, get_settings

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

    from rec_assets.resources.lake import Lake

_MADE_WITH = ("als_as_of", "ranker_as_of", "rules_version")
"""Columns of `hybrid_scores` that name the models and rules that made a list."""


@click.command()
@click.argument("customer")
@click.option(
    "--k",
    default=10,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Number of products. A list has at most REC_RECIPE__LIST_SIZE of them.",
)
@click.option(
    "--list", "list_name", default="all", show_default=True, type=click.Choice(["all", "discover"]),
    help="`discover` has no products that the customer bought in the lookback (REC_LOOKBACK_DAYS).",
)  # fmt: skip
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Day of the lists; default: the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def recommend(customer: str, k: int, list_name: str, as_of: dt.datetime | None, as_json: bool) -> None:
    """Print the recommendations for a customer. CUSTOMER is the id, as in the purchase log.

    Each product has its reason, the candidate source that contributed most, and the rule that raised or pinned it.
    The last line names the models and rules that made the list.
    """
    from rec_assets.resources.lake import open_lake

    lake = open_lake(get_settings().lake)
    day = _day_of_lists(lake, as_of.date() if as_of else None)
    rows = _recommendations(lake, day, customer, k, list_name)
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
        return
    click.echo(_to_table(rows, "rank", "product_id", "product", "score", "reason", "source", "rule"))
    if rows:
        versions = [f"{name} {rows[0][name]}" for name in _MADE_WITH if rows[0][name]]
        click.echo(f"\nList {list_name!r} as of {day}; made with {', '.join(versions) or 'the best sellers'}")


@click.command()
@click.argument("version", type=int)
def lineage(version: int) -> None:
    """Print the lineage of a release. It names what VERSION was made from, down to the landed files."""
    from rec_assets.automation.instance import open_instance
    from rec_assets.reports.lineage import describe_lineage
    from rec_assets.resources.lake import open_lake
    from rec_assets.resources.releases import Releases

    settings = get_settings()
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    release, instance = releases.get(version), open_instance(settings)
    for line in describe_lineage(release, releases, open_lake(settings.lake), instance):
        click.echo(line)


@click.command()
@click.option("--to", type=int, help="Version to roll back to; default: the release before the champion.")
def rollback(to: int | None) -> None:
    """Roll back to an earlier release. It becomes the champion again, and its index is published."""
    from rec_assets.automation.rollback import roll_back

    champion, index = roll_back(get_settings(), to)
    click.echo(f"champion is version {champion.version} (as of {champion.as_of}); serving {index.path}")


def print_bootstrap_results(settings: Settings) -> None:
    """Print the metrics, the recommendations for one customer, and the path of the report."""
    from rec_assets.assets.model_loading import missing_models
    from rec_assets.recsys.evaluation.report import summary_table
    from rec_assets.resources.lake import open_lake
    from rec_assets.resources.releases import Releases

    lake = open_lake(settings.lake)
    evaluated = lake.table("evaluation_report").days[-1]
    metrics = lake.table("evaluation_report").pandas([evaluated])
    click.echo(f"\n{summary_table(metrics[metrics['baseline'].isna()]).to_markdown()}")
    day = _day_of_lists(lake)
    customer = min(lake.table("hybrid_scores").pandas([day], columns=["customer_id"])["customer_id"], default=None)
    click.echo(f"\nFor {'all customers' if customer is None else f'customer {customer}'}, as of {day}:")
    if customer is None:
        rows = _to_records(lake, day, _best_sellers(lake, day, 5), "all")
    else:
        rows = _recommendations(lake, day, customer, 5, "all")
    click.echo(_to_table(rows, "rank", "product", "score", "reason"))
    release = Releases(settings.mlflow_uri, settings.registered_model).active(day)
    if release is not None and (missing := missing_models(lake, release)):
        click.echo(f"\nMissing models, as of {release.ranker_as_of}: {'; '.join(missing)}")
    if settings.experiments and (reported := lake.table("experiment_report").days):
        click.echo(f"\nExperiments: {settings.report(reported[-1], 'experiments')}")
    click.echo(f"\nReport: {settings.report(evaluated, 'evaluation')}")


def _day_of_lists(lake: Lake, wanted: dt.date | None = None) -> dt.date:
    days = lake.table("hybrid_scores").days
    if not days:
        raise click.ClickException(f"there are no recommendations in {lake.root} yet: run `rec-assets bootstrap` first")
    if wanted is not None and wanted not in days:
        names = [str(day) for day in days]
        available = ", ".join(names if len(names) <= 10 else [*names[:3], "…", *names[-5:]])
        raise click.ClickException(f"there are no recommendations as of {wanted}; available days: {available}")
    return wanted or days[-1]


def _recommendations(lake: Lake, day: dt.date, customer: str, k: int, list_name: str) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds

    lists = lake.table("hybrid_scores").pandas([day], where=ds.field("customer_id") == customer)
    rows = lists[(lists["list"] == list_name) & (lists["rank"] <= k)].sort_values("rank")
    if lists.empty:
        rows = _best_sellers(lake, day, k)
        click.echo(f"customer {customer!r} has no list as of {day}: showing the best sellers", err=True)
    elif rows.empty:
        click.echo(
            f"the list {list_name!r} of customer {customer!r} is empty on {day}: no product can be shown", err=True
        )
    return _to_records(lake, day, rows, list_name)


def _to_records(lake: Lake, day: dt.date, rows: pd.DataFrame, list_name: str) -> list[dict[str, Any]]:
    """The rows of a list with product names, sources, rules and versions, as JSON values."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    is_shown = ds.field("product_id").isin(pa.array(rows["product_id"], pa.string()))  # the type matters if empty
    names = lake.table("products").pandas(columns=["product_id", "title"], where=is_shown)
    titles = rows["product_id"].map(names.set_index("product_id")["title"])
    rows = rows.assign(product=titles, list=list_name, as_of=day)
    shown = rows[["product_id", "rank", "score", "reason", "product", "source", "rule", "list", "as_of", *_MADE_WITH]]
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        | {"rank": int(row["rank"]), "score": round(float(row["score"]), 6)}
        for row in shown.to_dict("records")
    ]


def _best_sellers(lake: Lake, day: dt.date, k: int) -> pd.DataFrame:
    from rec_assets.recsys.ranking.lists import popular_lists

    columns = ["product_id", "category", "order_lines", "recent_buyers"]
    popular = popular_lists(lake.table("product_snapshot").pandas([day], columns=columns), k)
    return popular.assign(source="best_sellers", **dict.fromkeys(("rule", *_MADE_WITH)))


def _to_table(rows: list[dict[str, Any]], *columns: str) -> str:
    from tabulate import tabulate

    cells = [[f"{row[name]:.3f}" if name == "score" else row[name] for name in columns] for row in rows]
    return tabulate(cells, headers=["" if name == "rank" else name for name in columns])
