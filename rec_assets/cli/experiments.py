"""Commands about experiments: experiments, off-policy, simulate."""

from __future__ import annotations

import click

from rec_assets.settings import get_settings


@click.command()
def experiments() -> None:
    """Print the planned experiments. The command also checks the experiments file (REC_EXPERIMENTS)."""
    from tabulate import tabulate

    from rec_assets.recsys.experiments.experiments_file import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.rules_file import read_rules

    settings = get_settings()
    planned = read_experiments(settings.experiments)
    check_rule_sets(planned, read_rules(settings.rules).sets)
    rows = [
        [experiment.name, f"{experiment.start} to {experiment.end}", experiment.unit,
         f"{name} (control)" if name == experiment.control else name, f"{variant.share:.0%}",
         ", ".join(f"{field}: {getattr(variant, field)}" for field in sorted(variant.changed_fields)) or "nothing",
         "clicks in interleaved responses" if experiment.design == "interleave" else experiment.main_metric]
        for experiment in planned.experiments
        for name, variant in experiment.variants.items()
    ]  # fmt: skip
    headers = ["experiment", "days", "unit", "variant", "share", "changes", "main metric"]
    file = settings.experiments
    hint = f" in {file}" if file else ": set REC_EXPERIMENTS to a YAML file (docs/experiments.md)"
    click.echo(tabulate(rows, headers=headers) if rows else f"no experiments{hint}")


@click.command("off-policy")
@click.argument("model", default="challenger")
@click.option(
    "--days", type=click.IntRange(1, 90), default=28, show_default=True, help="Number of newest days with responses."
)
@click.option(
    "--places", type=click.IntRange(1, 20), default=3, show_default=True, help="Number of first items that count."
)
def off_policy(model: str, days: int, places: int) -> None:
    """Estimate the clicks of a model. MODEL is an alias or a version.

    It uses the logged responses of a randomized ranking (`exploration` in docs/experiments.md).
    """
    from tabulate import tabulate

    from rec_assets.recsys.experiments.off_policy import InsufficientData
    from rec_assets.reports.off_policy_estimate import estimate_clicks

    try:
        release, result = estimate_clicks(get_settings(), model, last_days=days, places=places)
    except InsufficientData as error:
        raise click.ClickException(str(error)) from None
    rows = [
        [name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}"]
        for name, estimate in {"as logged": result.logged, **result.estimates}.items()
    ]
    headers = [f"version {release.version}", f"clicks per response, first {places} items", "95% interval"]
    click.echo(tabulate(rows, headers=headers))
    click.echo(
        f"{result.responses:,} responses, with an effective sample size of {result.effective_responses:,.0f} for this "
        f"model; {result.support:.0%} of its choices could have been logged. The estimate counts clicks only: use it "
        "to choose models for an experiment."
    )


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 60), default=14, show_default=True, help="Days to simulate, after the index's day."
)
@click.option("--customers", type=click.IntRange(1), help="Maximum number of customers, in the order of their ids.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random generator.")
@click.option("--url", help="URL of the API; default: on this machine.")
def simulate(days: int, customers: int | None, seed: int, url: str | None) -> None:
    """Send SIMULATED traffic to the API. Use it to try out experiments.

    It replays the purchases that have landed for the days after the day of the published index. All events are written
    to REC_HOME/simulation/ledger.json.
    """
    import datetime as dt
    import zoneinfo

    import requests

    from rec_assets.cli.deployment import NOT_PUBLISHED
    from rec_assets.cli.keys import open_online_state
    from rec_assets.recsys.experiments.experiments_file import read_experiments
    from rec_assets.serving.index_files.folder import ServingFolder
    from rec_assets.simulator import ShopperBehavior, Simulator, later_purchases
    from rec_assets.sources.spec import load_data_source

    settings, now = get_settings(), dt.datetime.now(dt.timezone.utc)
    source = load_data_source(settings.source, settings.root)
    published = ServingFolder(settings.serving).current()
    if published is None:
        raise click.ClickException(NOT_PUBLISHED)
    simulated = [published.as_of + dt.timedelta(days=number) for number in range(1, days + 1)]
    purchases = later_purchases(source, simulated, customers)
    if purchases.empty:
        raise click.ClickException(
            f"no purchases have landed for {simulated[0]} to {simulated[-1]}, the days after the index: in the "
            "YAML file, set `last_day` to some days before the newest landed file, and bootstrap with a new REC_HOME"
        )
    running = {experiment.name for day in simulated for experiment in read_experiments(settings.experiments).on(day)}
    if not running:
        click.echo(f"no experiment runs from {simulated[0]} to {simulated[-1]}: nothing will be compared")
    online = open_online_state()
    online.revoke_key("simulator")
    scopes = ["read", "events", "sales", "simulate"]
    key = online.add_key("simulator", scopes, now, expires=now + dt.timedelta(days=1))
    click.echo(f"SIMULATED traffic for {simulated[0]} to {simulated[-1]}: it proves no effect")
    simulator = Simulator(url or f"http://127.0.0.1:{settings.api.port}", key, purchases, ShopperBehavior(), seed)
    ledger = settings.root / "simulation" / "ledger.json"
    try:
        simulator.run(simulated, zoneinfo.ZoneInfo(source.time_zone), click.echo)
    except requests.RequestException as error:
        raise click.ClickException(f"{error}\nIs the API running (`rec-assets serve`), on this REC_HOME?") from None
    finally:
        simulator.ledger.write(ledger)
        online.revoke_key("simulator")
        click.echo(f"ledger: {ledger}")
