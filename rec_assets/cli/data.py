"""Commands about the data in the lake: diff, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rec_assets.cli.keys import open_online_state
from rec_assets.settings import get_settings

if TYPE_CHECKING:
    import datetime as dt


@click.command()
@click.argument("table")
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]), required=False)
@click.option("--from", "version", type=click.IntRange(0), help="Version to compare; default: the newest that differs.")
def diff(table: str, day: dt.datetime | None, version: int | None) -> None:
    """Print the rows of TABLE that differ from an earlier version. DAY is the partition, if the table has days.

    Earlier versions can be read until housekeeping deletes their files (not before a week after they were replaced, and
    not while a release needs them) or a customer is forgotten. `rec-assets lineage` prints the versions that a release
    was made from.
    """
    from rec_assets.reports.table_diff import describe_diff
    from rec_assets.resources.lake import open_lake

    for line in describe_diff(open_lake(get_settings().lake), table, day.date() if day else None, version):
        click.echo(line)


@click.command()
@click.argument("customer")
@click.option("--receipt", is_flag=True, help="Print what was removed from each table, index and model version.")
def forget(customer: str, receipt: bool) -> None:
    """Forget a customer now, in all data. CUSTOMER is the id, as in the purchase log.

    This does what `DELETE /v1/customers/{id}` and the next plan do together.
    """
    import datetime as dt

    from rec_assets.automation.instance import open_instance
    from rec_assets.automation.land_and_forget import find_other_runs, land_and_forget
    from rec_assets.automation.plan_lock import plan_lock
    from rec_assets.resources.forgotten import ForgottenFile
    from rec_assets.sources.spec import load_data_source

    settings = get_settings()
    source = load_data_source(settings.source, settings.root)
    with plan_lock(settings):
        online = open_online_state()
        events = online.forget(customer, dt.datetime.now(dt.timezone.utc))
        online.close()
        lines = [f"online state: {events} events removed"]
        other_runs = find_other_runs(open_instance(settings))
        has_answered = land_and_forget(settings, source.time_zone, lines.append, other_runs=other_runs)
    if receipt:
        click.echo("\n".join(lines))
    if not has_answered or ForgottenFile.read(settings.forgotten_file).pending:
        raise click.ClickException("not all data are rewritten yet: --receipt shows why. The next plan tries again")
    click.echo("the customer is forgotten. Delete their lines from your own files, too")
