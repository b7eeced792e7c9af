"""Commands that check, build and serve a deployment: check-source, bootstrap, ui, serve, storefront."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import warnings

import click

from rec_assets.cli.keys import open_online_state
from rec_assets.cli.results import print_bootstrap_results
from rec_assets.settings import get_settings

NOT_PUBLISHED = "no index is published yet: run `rec-assets bootstrap` first"


@click.command("check-source")
@click.argument("source", required=False)
def check_source(source: str | None) -> None:
    """Check a data source. SOURCE is a YAML file or a built-in name; default: REC_SOURCE.

    The command reads a sample, prints errors and warnings, and stores nothing.
    """
    from rec_assets.sources.check import check_source as run_check
    from rec_assets.sources.landing import too_few_days_message
    from rec_assets.sources.spec import load_data_source

    settings = get_settings()
    result = run_check(load_data_source(source or settings.source, settings.root))
    if result.covered_days and (message := too_few_days_message(*result.covered_days, settings.horizon_days)):
        result.errors.append(message)
    click.echo(result.to_text())
    sys.exit(0 if result.ok else 1)


@click.command()
@click.option("--keep", is_flag=True, help="Keep what an earlier version of the code made, although it is stale.")
def bootstrap(keep: bool) -> None:
    """Bring the lake up to date. It materializes the stale partitions that the newest day needs, oldest day first.

    If the lake has a release of an earlier day, it does the same as the job `retrain`: it may release a new model.
    """
    from rec_assets.recsys.experiments.experiments_file import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.rules_file import read_rules
    from rec_assets.resources.java import require_java
    from rec_assets.resources.recipes import Recipes
    from rec_assets.resources.spark import start_early
    from rec_assets.sources.spec import load_data_source

    settings = get_settings()
    # Report invalid files now, and not after an hour.
    check_rule_sets(read_experiments(settings.experiments), read_rules(settings.rules).sets)
    Recipes.from_settings(settings).tuned()
    if not settings.spark_remote:
        require_java()
    source = load_data_source(settings.source, settings.root)
    start_early(settings)
    warnings.filterwarnings("ignore", module="dagster.*")  # about beta interfaces, for developers
    from rec_assets.automation.bootstrap import bootstrap as run_bootstrap
    from rec_assets.definitions import defs

    gc.freeze()  # collections, also the last at exit, leave out what the imports made
    run_bootstrap(defs, settings, source, keep=keep)
    print_bootstrap_results(settings)


@click.command()
def ui() -> None:
    """Start the web UIs of Dagster and MLflow. Press Ctrl-C to stop both."""
    from rec_assets.automation.instance import open_instance
    from rec_assets.resources.mlflow_store import prepare_store
    from rec_assets.sources.spec import load_data_source

    settings = get_settings()
    load_data_source(settings.source, settings.root)  # report errors once, and not in each code server
    _require_free_port("REC_UI_PORT", "127.0.0.1", settings.ui_port)
    if not settings.mlflow_is_server:
        _require_free_port("REC_MLFLOW_PORT", "127.0.0.1", settings.mlflow_port)
    open_instance(settings)
    prepare_store(settings.mlflow_uri)
    click.echo(f"Dagster: http://localhost:{settings.ui_port}   MLflow: {settings.mlflow_ui_base_url}")
    environment = {**os.environ, "DAGSTER_HOME": str(settings.dagster_home), "REC_HOME": str(settings.root)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # saves half a dozen unused processes
    # A process in the background of a script ignores Ctrl-C, and the servers would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bin_folder = os.path.dirname(sys.executable)
    mlflow = None if settings.mlflow_is_server else subprocess.Popen(
        [f"{bin_folder}/mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1",
         "--backend-store-uri", settings.mlflow_uri],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = [f"{bin_folder}/dagster", "dev", "-m", "rec_assets.definitions", "--port", str(settings.ui_port)]
    dagster = subprocess.Popen(command, env=environment)
    # Terminate Dagster instead of killing it, so that it can stop its own servers.
    signal.signal(signal.SIGTERM, lambda *_: dagster.terminate())
    try:
        sys.exit(dagster.wait())
    except KeyboardInterrupt:  # Dagster gets it too
        dagster.wait()
    finally:
        if mlflow is not None:
            mlflow.terminate()


@click.command()
def serve() -> None:
    """Start the real-time API on the published index. Press Ctrl-C to stop it."""
    from rec_assets.recsys.experiments.experiments_file import check_rule_sets, read_experiments
    from rec_assets.recsys.rules.rules_file import read_rules
    from rec_assets.serving.http.server import serve as run_server
    from rec_assets.serving.index_files.folder import ServingFolder

    settings = get_settings()
    # Report invalid files once, and not in each worker.
    check_rule_sets(read_experiments(settings.experiments), read_rules(settings.rules).sets)
    _require_free_port("REC_API__PORT", settings.api.host, settings.api.port)
    if ServingFolder(settings.serving).current() is None:
        click.echo(
            f"no index is published in {settings.serving} yet: run `rec-assets bootstrap`. Until then the "
            "API returns 503"
        )
    click.echo(
        f"API: http://{settings.api.host}:{settings.api.port}/docs   (keys: rec-assets keys add NAME --scope read)"
    )
    run_server(settings)


@click.command()
def storefront() -> None:
    """Start a small demo shop. It includes the API, and uses the published index. Press Ctrl-C to stop it."""
    import datetime as dt
    import secrets

    from pydantic import SecretStr

    from rec_assets.serving.http.server import serve as run_server
    from rec_assets.serving.index_files.folder import ServingFolder

    settings, now = get_settings(), dt.datetime.now(dt.timezone.utc)
    if ServingFolder(settings.serving).current() is None:
        raise click.ClickException(NOT_PUBLISHED)
    _require_free_port("REC_API__PORT", settings.api.host, settings.api.port)
    online = open_online_state()
    online.revoke_key("storefront")
    # The page shows its key to all visitors. The demo server signs their customer tokens, as the server of a shop does.
    scopes, day = ["read", "events", "sales"], dt.timedelta(days=1)
    key = online.add_key("storefront", scopes, now, expires=now + day, is_public=True)
    secret = settings.api.customer_secret or SecretStr(secrets.token_urlsafe(32))
    api = settings.api.model_copy(update={"storefront_key": SecretStr(key), "customer_secret": secret})
    click.echo(f"Demo shop: http://{api.host}:{api.port}/storefront/storefront.html")
    run_server(settings.model_copy(update={"api": api}))


def _require_free_port(setting: str, host: str, port: int) -> None:
    """Report in one line that a server can't listen, before it starts."""
    import socket

    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], address[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            probe.bind(address[4])
    except OSError as error:
        raise click.ClickException(
            f"can't listen on {host}:{port} ({(error.strerror or str(error)).lower()}): stop the process that listens "
            f"there, or set {setting}"
        ) from None
