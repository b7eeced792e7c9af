"""The `rec-assets` command. Each subcommand imports what it needs when it runs, so that all start quickly."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from rec_assets.settings import InvalidSettings, Settings, get_settings, unknown_variables
from rec_assets.sources.errors import SourceError

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

    from rec_assets.resources.lake import Lake
    from rec_assets.serving.online import Key, OnlineState


_NOT_PUBLISHED = "no index is published yet: run `rec-assets bootstrap` first"

_VERSIONS = ("als_version", "ranker_version", "rules_version")
"""Columns of `hybrid_scores` that say what a list was made by."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rec_assets")
def cli() -> None:
    """Recommendations from a shop's purchase logs. Settings are REC_… variables (rec_assets/settings.py)."""
    for line in unknown_variables():
        click.echo(f"rec-assets: {line}", err=True)


@cli.command("check-source")
@click.argument("source", required=False)
def check_source_command(source: str | None) -> None:
    """Read a sample of SOURCE (default: REC_SOURCE) and say what was understood and what is wrong."""
    from rec_assets.automation.plan import too_few_days
    from rec_assets.sources.check import check_source
    from rec_assets.sources.spec import load_source

    settings = get_settings()
    found = check_source(load_source(source or settings.source, settings.root))
    if found.covers and (said := too_few_days(*found.covers, settings)):
        found.errors.append(said)
    click.echo(found.to_text())
    sys.exit(0 if found.ok else 1)


@cli.command()
def bootstrap() -> None:
    """Work out what the newest day needs and materialize it, oldest first."""
    from rec_assets.recsys.experiments.spec import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.spec import read_rules
    from rec_assets.resources.java import require_java
    from rec_assets.resources.recipes import Recipes

    settings = get_settings()
    # What is wrong with the files is better said now than in an hour.
    check_rule_sets(read_experiments(settings.experiments), read_rules(settings.rules).sets)
    Recipes.of(settings).to_train()
    if not settings.spark_remote:
        require_java()
    warnings.filterwarnings("ignore", module="dagster.*")  # notices to developers, about interfaces in beta
    from rec_assets.automation.bootstrap import bootstrap as run_bootstrap
    from rec_assets.definitions import defs
    from rec_assets.sources.spec import load_source

    run_bootstrap(defs, settings, load_source(settings.source, settings.root))
    _show_results(settings)


@cli.command()
@click.argument("customer")
@click.option("--k", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option("--list", "list_name", default="all", show_default=True, type=click.Choice(["all", "discover"]))
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Day of the lists; default: the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def recommend(customer: str, k: int, list_name: str, as_of: dt.datetime | None, as_json: bool) -> None:
    """The recommendations for CUSTOMER: of the newest day, or of another."""
    from rec_assets.resources.lake import Lake

    lake = Lake(get_settings().lake)
    day = _day_of_scores(lake, as_of.date() if as_of else None)
    rows = _recommendations(lake, day, customer, k, list_name)
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
    else:
        click.echo(_as_table(rows))


@cli.command()
@click.option("--to", type=int, help="Version to go back to; default: the one before the champion.")
def rollback(to: int | None) -> None:
    """Go back to an earlier release: the registry's alias and what the API serves."""
    from rec_assets.automation.rollback import roll_back

    champion, index = roll_back(get_settings(), to)
    click.echo(f"champion is version {champion.version} (as of {champion.as_of}); serving {index.path}")


@cli.command()
@click.argument("version", type=int)
def lineage(version: int) -> None:
    """Where release VERSION comes from, down to the landed files and their fingerprints."""
    from rec_assets.automation.execution import open_instance
    from rec_assets.automation.lineage import describe_lineage
    from rec_assets.resources.lake import Lake
    from rec_assets.resources.releases import Releases

    settings = get_settings()
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    release, instance = releases.get(version), open_instance(settings)
    for line in describe_lineage(release, releases, Lake(settings.lake), instance):
        click.echo(line)


@cli.command()
def ui() -> None:
    """Open the Dagster web UI, and MLflow's beside it; stop both with Ctrl-C."""
    from rec_assets.automation.execution import open_instance
    from rec_assets.resources.mlflow_store import prepare_store
    from rec_assets.sources.spec import load_source

    settings = get_settings()
    load_source(settings.source, settings.root)  # what is wrong with it is said here, not by each code server
    _require_free("REC_UI_PORT", "127.0.0.1", settings.ui_port)
    if not settings.mlflow_is_server:
        _require_free("REC_MLFLOW_PORT", "127.0.0.1", settings.mlflow_port)
    open_instance(settings)
    prepare_store(settings.mlflow_uri)
    click.echo(f"Dagster: http://localhost:{settings.ui_port}   MLflow: {settings.mlflow_ui_base_url}")
    environment = {**os.environ, "DAGSTER_HOME": str(settings.dagster_home), "REC_HOME": str(settings.root)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # half a dozen processes that nothing here uses
    # A script's background ignores Ctrl-C, and servers would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = os.path.dirname(sys.executable)
    mlflow = None if settings.mlflow_is_server else subprocess.Popen(
        [f"{here}/mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1",
         "--backend-store-uri", settings.mlflow_uri],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = [f"{here}/dagster", "dev", "-m", "rec_assets.definitions", "--port", str(settings.ui_port)]
    dagster = subprocess.Popen(command, env=environment)
    # Asked to stop, it stops the servers that it started; killed, it could not.
    signal.signal(signal.SIGTERM, lambda *_: dagster.terminate())
    try:
        sys.exit(dagster.wait())
    except KeyboardInterrupt:  # which it got, too
        dagster.wait()
    finally:
        if mlflow is not None:
            mlflow.terminate()


@cli.command()
def serve() -> None:
    """Answer requests: the real-time API, on what is published; stop it with Ctrl-C."""
    from rec_assets.recsys.experiments.spec import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.spec import read_rules
    from rec_assets.serving.folder import ServingFolder
    from rec_assets.serving.server import serve as run_server

    settings = get_settings()
    # What is wrong with the files is said here, not by each worker.
    check_rule_sets(read_experiments(settings.experiments), read_rules(settings.rules).sets)
    _require_free("REC_API__PORT", settings.api.host, settings.api.port)
    if ServingFolder(settings.serving).current() is None:
        click.echo(
            f"nothing is published in {settings.serving} yet: run `rec-assets bootstrap`; until then it answers 503"
        )
    click.echo(
        f"API: http://{settings.api.host}:{settings.api.port}/docs   (keys: rec-assets keys add NAME --scope read)"
    )
    run_server(settings)


@cli.command()
def storefront() -> None:
    """Open a small demo shop on what is published, with the API behind it; stop it with Ctrl-C."""
    import datetime as dt
    import secrets

    from pydantic import SecretStr

    from rec_assets.serving.folder import ServingFolder
    from rec_assets.serving.server import serve as run_server

    settings, now = get_settings(), dt.datetime.now(dt.timezone.utc)
    if ServingFolder(settings.serving).current() is None:
        raise click.ClickException(_NOT_PUBLISHED)
    _require_free("REC_API__PORT", settings.api.host, settings.api.port)
    online = _online_state()
    online.revoke_key("storefront")
    # Everybody who opens the shop has its key; the shop signs its visitors' tokens as a shop's own server would.
    scopes, day = ["read", "events", "sales"], dt.timedelta(days=1)
    key = online.add_key("storefront", scopes, now, expires=now + day, is_public=True)
    secret = settings.api.customer_secret or SecretStr(secrets.token_urlsafe(32))
    api = settings.api.model_copy(update={"storefront_key": SecretStr(key), "customer_secret": secret})
    click.echo(f"Demo shop: http://{api.host}:{api.port}/storefront/storefront.html")
    run_server(settings.model_copy(update={"api": api}))


@cli.command()
def experiments() -> None:
    """Read the experiments' file (REC_EXPERIMENTS) and say what runs when, or what is wrong."""
    from tabulate import tabulate

    from rec_assets.recsys.experiments.spec import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.spec import read_rules

    settings = get_settings()
    planned = read_experiments(settings.experiments)
    check_rule_sets(planned, read_rules(settings.rules).sets)
    found = planned.experiments
    rows = [
        [each.name, f"{each.start} to {each.end}", each.unit, f"{name} (control)" if name == each.control else name,
         f"{variant.share:.0%}",
         ", ".join(f"{lever}: {getattr(variant, lever)}" for lever in sorted(variant.levers)) or "nothing",
         "clicks in mixed answers" if each.design == "interleave" else each.main_metric]
        for each in found
        for name, variant in each.variants.items()
    ]  # fmt: skip
    none = (
        f"no experiments in {settings.experiments}"
        if settings.experiments
        else "no experiments: set REC_EXPERIMENTS to a YAML file (docs/experiments.md)"
    )
    click.echo(
        tabulate(rows, headers=["experiment", "days", "unit", "variant", "share", "changes", "decides"])
        if rows
        else none
    )


@cli.group()
def rules() -> None:
    """The merchandiser's rules: what they say, and what they would have cost and gained."""


@rules.command("show")
def show_rules() -> None:
    """Read the rules' file (REC_RULES) and say what each rule does to today's catalog, or what is wrong."""
    from tabulate import tabulate

    from rec_assets.automation.rules import inspect_rules
    from rec_assets.recsys.rules.spec import read_rules

    settings = get_settings()
    default = read_rules(settings.rules).default
    rows = [
        [
            f"{row.rule_set} (default)" if row.rule_set == default else row.rule_set, row.name, row.kind,
            f"{row.hidden:,}" if row.hidden else "",
            f"{', '.join(row.unknown[:3])}{f' and {len(row.unknown) - 3:,} more' if len(row.unknown) > 3 else ''}",
        ]
        for row in inspect_rules(settings)
    ]  # fmt: skip
    none = "no rules: set REC_RULES to a YAML file (docs/rules.md)"
    headers = ["rule set", "rule", "kind", "products hidden", "not in the catalog"]
    click.echo(tabulate(rows, headers=headers) if rows else none)


@rules.command("simulate")
@click.argument("rule_sets", nargs=-1)
def simulate_rules(rule_sets: tuple[str, ...]) -> None:
    """Arrange past lists by RULE_SETS (default: all) and hold them against what was bought since; writes a page."""
    from tabulate import tabulate

    from rec_assets.automation.rules import simulate as run_simulation
    from rec_assets.recsys.rules.page import as_change

    found, path = run_simulation(get_settings(), list(rule_sets), click.echo)
    rows = [
        [
            name, f"{row['ndcg']:.4f}", as_change(row["ndcg_change"]), as_change(row["ndcg_novel_change"]),
            f"{row['coverage']:.1%}", as_change(row["coverage_change"]), as_change(row["revenue_change"]),
            as_change(row["expected_revenue_change"]),
        ]
        for name, row in found.table.to_dict("index").items()
    ]  # fmt: skip
    headers = ["rules", "NDCG@10", "change", "novel", "catalog shown", "change", "bought value", "expected value"]
    click.echo(tabulate(rows, headers=headers, disable_numparse=True))
    click.echo(f"\nPage: {path}")


@cli.command("off-policy")
@click.argument("model", default="challenger")
@click.option(
    "--days", type=click.IntRange(1, 90), default=28, show_default=True, help="Newest days of logged answers."
)
@click.option(
    "--places", type=click.IntRange(1, 20), default=3, show_default=True, help="Of an answer, from the first."
)
def off_policy_command(model: str, days: int, places: int) -> None:
    """Estimate what MODEL (an alias or version) would get, from answers that were given with chance and logged."""
    from tabulate import tabulate

    from rec_assets.automation.off_policy import estimate
    from rec_assets.recsys.experiments.off_policy import InsufficientData

    try:
        release, found = estimate(get_settings(), model, last_days=days, places=places)
    except InsufficientData as error:
        raise click.ClickException(str(error)) from None
    rows = [
        [name, f"{each.value:.4f}", f"{each.low:.4f} to {each.high:.4f}"]
        for name, each in {"as logged": found.champion, **found.estimates}.items()
    ]
    click.echo(
        tabulate(rows, headers=[f"for version {release.version}", f"clicks an answer, first {places} places", "95 %"])
    )
    click.echo(
        f"{found.answers:,} answers, worth {found.effective:,.0f} of this model's; {found.support:.0%} of what it "
        "would show could have been logged. Clicks only: use it to choose what to try in an experiment."
    )


@cli.command()
@click.option(
    "--days",
    type=click.IntRange(1, 60),
    default=14,
    show_default=True,
    help="Days to play, from the one after the index's.",
)
@click.option("--customers", type=click.IntRange(1), help="So many only, by their ids.")
@click.option("--seed", default=0, show_default=True)
@click.option("--url", help="Of the API; default: this machine's.")
def simulate(days: int, customers: int | None, seed: int, url: str | None) -> None:
    """Play customers' later purchases against a running API: SIMULATED traffic, to try out experiments.

    The purchases are those that have landed for the days after the one that the index knows. What was sent is written
    to REC_HOME/simulation/ledger.json.
    """
    import datetime as dt
    import zoneinfo

    import requests

    from rec_assets.recsys.experiments.spec import read_experiments
    from rec_assets.serving.folder import ServingFolder
    from rec_assets.simulator import Simulator, World, later_purchases
    from rec_assets.sources.spec import load_source

    settings, now = get_settings(), dt.datetime.now(dt.timezone.utc)
    source = load_source(settings.source, settings.root)
    published = ServingFolder(settings.serving).current()
    if published is None:
        raise click.ClickException(_NOT_PUBLISHED)
    played = [published.as_of + dt.timedelta(days=number) for number in range(1, days + 1)]
    truth = later_purchases(source, played, customers)
    if truth.empty:
        raise click.ClickException(
            f"nothing has landed for {played[0]} to {played[-1]}, the days after the index's: bootstrap a source whose "
            "last_day is some days before the newest landed file"
        )
    running = {each.name for day in played for each in read_experiments(settings.experiments).on(day)}
    if not running:
        click.echo(f"no experiment takes traffic from {played[0]} to {played[-1]}: nothing will be compared")
    online = _online_state()
    online.revoke_key("simulator")
    scopes = ["read", "events", "sales", "simulate"]
    key = online.add_key("simulator", scopes, now, expires=now + dt.timedelta(days=1))
    click.echo(f"SIMULATED traffic for {played[0]} to {played[-1]}: it is evidence of nothing")
    simulator = Simulator(url or f"http://127.0.0.1:{settings.api.port}", key, truth, World(), seed)
    ledger = settings.root / "simulation" / "ledger.json"
    try:
        simulator.run(played, zoneinfo.ZoneInfo(source.time_zone), click.echo)
    except requests.RequestException as error:
        raise click.ClickException(f"{error}\nIs the API running (`rec-assets serve`), on this REC_HOME?") from None
    finally:
        simulator.ledger.write(ledger)
        online.revoke_key("simulator")
        click.echo(f"ledger: {ledger}")


@cli.group()
def keys() -> None:
    """Keys of the API: who may ask what."""


@keys.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["read", "events", "sales", "admin", "simulate"]),
    help="What it may do; may be repeated. Purchases and returns take `events` and `sales`.",
)
@click.option("--days", type=click.IntRange(1), help="Days until it expires; default: never.")
@click.option("--public", is_flag=True, help="For a shop's pages: speaks of a customer only with their token.")
def add_key(name: str, scopes: tuple[str, ...], days: int | None, public: bool) -> None:
    """Make a key called NAME and print it: it is kept as a digest only and can't be shown again."""
    import datetime as dt

    now = dt.datetime.now(dt.timezone.utc)
    expires = None if days is None else now + dt.timedelta(days=days)
    try:
        click.echo(_online_state().add_key(name, scopes, now, expires, is_public=public))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@keys.command("token")
@click.argument("customer_id")
@click.option("--days", type=click.IntRange(1), default=1, show_default=True, help="Days that it holds.")
def make_token(customer_id: str, days: int) -> None:
    """Print a token with which a public key may speak of a customer, as the shop's server would make it."""
    import datetime as dt

    from rec_assets.serving.security import customer_token

    secret = get_settings().api.customer_secret
    if secret is None:
        raise click.ClickException("set REC_API__CUSTOMER_SECRET to a secret of 32 characters or more")
    until = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
    click.echo(customer_token(secret.get_secret_value(), customer_id, until))


@keys.command("list")
def list_keys() -> None:
    """Names, scopes and ends of all keys."""
    from tabulate import tabulate

    rows = [
        (
            key.name,
            ", ".join(sorted(key.scopes)),
            key.is_public,
            f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never",
        )
        for key in _known_keys()
    ]
    click.echo(
        tabulate(sorted(rows), headers=["name", "scopes", "public", "expires (UTC)"]) if rows else "there are no keys"
    )


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Take all keys called NAME back, at once."""
    count = _online_state().revoke_key(name) if _known_keys() else 0
    if not count:
        raise click.ClickException(f"there is no key called {name!r}; `rec-assets keys list` shows them")
    click.echo(f"{count} key{'s' if count > 1 else ''} called {name!r} taken back")


def _online_state() -> OnlineState:
    from sqlalchemy.exc import SQLAlchemyError

    from rec_assets.serving.online import OnlineState

    settings = get_settings()
    settings.serving.mkdir(parents=True, exist_ok=True)
    where = "REC_API__DATABASE_URL" if settings.api.database_url else settings.online_file
    try:
        online = OnlineState(settings.online_url)
        online.create()
    except (SQLAlchemyError, ImportError) as error:
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise click.ClickException(f"the API's database ({where}) can't be used: {why}") from None
    return online


def _known_keys() -> list[Key]:
    """Keys of the API; looking for them makes no database."""
    settings = get_settings()
    is_there = settings.api.database_url is not None or settings.online_file.exists()
    return list(_online_state().keys().values()) if is_there else []


def _require_free(setting: str, host: str, port: int) -> None:
    """Say in one line that a server can't listen, before it starts and says so in many."""
    import socket

    try:
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(where[0], where[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            probe.bind(where[4])
    except OSError as error:
        raise click.ClickException(
            f"can't listen on {host}:{port} ({(error.strerror or str(error)).lower()}): stop what listens there, or "
            f"set {setting}"
        ) from None


def _day_of_scores(lake: Lake, wanted: dt.date | None = None) -> dt.date:
    days = lake.days("hybrid_scores")
    if not days:
        raise click.ClickException(f"there are no recommendations in {lake.root} yet: run `rec-assets bootstrap` first")
    if wanted is not None and wanted not in days:
        shown = [str(day) for day in days]
        there = ", ".join(shown if len(shown) <= 10 else [*shown[:3], "…", *shown[-5:]])
        raise click.ClickException(f"there are no recommendations as of {wanted}; there are of {there}")
    return wanted or days[-1]


def _recommendations(lake: Lake, day: dt.date, customer: str, k: int, list_name: str) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds

    theirs = lake.pandas("hybrid_scores", [day], where=ds.field("customer_id") == customer)
    rows = theirs[(theirs["list"] == list_name) & (theirs["rank"] <= k)].sort_values("rank")
    if theirs.empty:
        rows = _popular(lake, day, k)
        click.echo(f"customer {customer!r} is unknown on {day}: showing what is popular with everybody", err=True)
    elif rows.empty:
        click.echo(
            f"the list {list_name!r} of customer {customer!r} is empty on {day}: nothing is left to show", err=True
        )
    return _named(lake, day, rows, list_name)


def _named(lake: Lake, day: dt.date, rows: pd.DataFrame, list_name: str) -> list[dict[str, Any]]:
    """Rows of a list with the products' names and what made them, to print."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    names = lake.pandas(
        "products",
        columns=["product_id", "title"],
        where=ds.field("product_id").isin(pa.array(rows["product_id"], pa.string())),  # of none, too
    )
    titles = rows["product_id"].map(names.set_index("product_id")["title"])
    rows = rows.assign(product=titles, list=list_name, as_of=day)
    shown = rows[["product_id", "rank", "score", "reason", "product", "source", "rule", "list", "as_of", *_VERSIONS]]
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        | {"rank": int(row["rank"]), "score": round(float(row["score"]), 6)}
        for row in shown.to_dict("records")
    ]


def _popular(lake: Lake, day: dt.date, k: int) -> pd.DataFrame:
    from rec_assets.recsys.ranking.hybrid import popular_lists

    categories = lake.pandas("products", columns=["product_id", "category"]).set_index("product_id")["category"]
    popular = popular_lists(lake.pandas("product_statistics", [day]), categories, k)
    return popular.assign(source="segment", **dict.fromkeys(("rule", *_VERSIONS)))


def _show_results(settings: Settings) -> None:
    """What a bootstrap ends with: the report, its table, and a taste of the recommendations."""
    from rec_assets.assets.evaluation import report_path
    from rec_assets.assets.experiments import report_path as experiments_path
    from rec_assets.assets.models_of_day import missing_models
    from rec_assets.recsys.evaluation.report import summary_table
    from rec_assets.resources.lake import Lake
    from rec_assets.resources.releases import Releases

    lake = Lake(settings.lake)
    judged = lake.days("evaluation_report")[-1]
    metrics = lake.pandas("evaluation_report", [judged])
    click.echo(f"\n{summary_table(metrics[metrics['baseline'].isna()]).to_markdown()}")
    day = _day_of_scores(lake)
    customer = min(lake.pandas("hybrid_scores", [day], columns=["customer_id"])["customer_id"], default=None)
    click.echo(f"\nFor {'everybody' if customer is None else f'customer {customer}'}, as of {day}:")
    shown = _popular(lake, day, 5)
    rows = _named(lake, day, shown, "all") if customer is None else _recommendations(lake, day, customer, 5, "all")
    click.echo(_as_table(rows))
    release = Releases(settings.mlflow_uri, settings.registered_model).in_force(day)
    if release is not None and (missing := missing_models(lake, release)):
        click.echo(f"\nNot learned, as of {release.ranker_version}: {'; '.join(missing)}")
    if settings.experiments and (reported := lake.days("experiment_report")):
        click.echo(f"\nExperiments: {experiments_path(settings, reported[-1])}")
    click.echo(f"\nReport: {report_path(settings, judged)}")


def _as_table(rows: list[dict[str, Any]]) -> str:
    from tabulate import tabulate

    return tabulate(
        [[row["rank"], row["product"], row["reason"], f"{row['score']:.3f}"] for row in rows],
        headers=["", "product", "reason", "score"],
    )


_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC)
"""What a disk refuses, and not the code."""


def main() -> None:
    """Entry point: errors that a user can fix are one line, without a stack trace."""
    from rec_assets.recsys.experiments.spec import ExperimentsError
    from rec_assets.recsys.rules.spec import RulesError
    from rec_assets.resources.java import JavaMissing
    from rec_assets.resources.lake import DamagedPartition, MissingPartition

    expected: tuple[type[Exception], ...] = (
        SourceError, JavaMissing, MissingPartition, DamagedPartition, InvalidSettings, ExperimentsError, RulesError,
    )  # fmt: skip
    try:
        cli(standalone_mode=True)
    except expected as error:
        sys.exit(f"rec-assets: {error}")
    except OSError as error:
        if error.errno not in _DISK or error.filename is None:
            raise
        sys.exit(f"rec-assets: {error.filename}: {error.strerror}: REC_HOME must be a folder that you may write to")
    except RuntimeError as error:
        expected_names = (
            "DatabricksUnusable", "ExecutionError", "PlanError", "RecipeUnreadable", "ReleaseError", "SparkUnusable",
        )  # fmt: skip
        if type(error).__name__ not in expected_names:
            raise
        sys.exit(f"rec-assets: {error}")


if __name__ == "__main__":
    main()
