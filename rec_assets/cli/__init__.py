"""The `rec-assets` command: its subcommands by theme, and the errors that it reports in one line.

Each subcommand imports what it needs when it runs, so that every command starts quickly.
"""

from __future__ import annotations

import errno
import sys

import click

from rec_assets.cli import data, deployment, experiments, keys, results, rules, shops
from rec_assets.errors import UserError
from rec_assets.resources.java import JavaMissing
from rec_assets.settings import unknown_variables


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rec_assets")
def cli() -> None:
    """Recommendations from the purchase logs of a shop. Set REC_… variables to change the settings."""
    for line in unknown_variables():
        click.echo(f"rec-assets: {line}", err=True)


for _command in (
    deployment.check_source, deployment.bootstrap, deployment.ui, deployment.serve, deployment.storefront,
    results.recommend, results.lineage, results.rollback, rules.rules, experiments.experiments, experiments.off_policy,
    experiments.simulate, keys.keys, data.diff, data.forget, shops.make_shop,
):  # fmt: skip
    cli.add_command(_command)

_DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC)
"""Errors of the file system that the user can fix."""


def main() -> None:
    """Entry point: prints errors that the user can fix in one line, without a stack trace."""
    try:
        cli(standalone_mode=True)
    except (UserError, JavaMissing) as error:
        sys.exit(f"rec-assets: {error}")
    except OSError as error:
        if error.errno not in _DISK_ERRORS or error.filename is None:
            raise
        sys.exit(f"rec-assets: {error.filename}: {error.strerror}: REC_HOME must be a folder that you can write to")
