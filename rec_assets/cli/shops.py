"""The command that makes a synthetic shop: make-shop."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("make-shop")
@click.argument("kind", type=click.Choice(["fashion"]))
@click.option("--customers", type=click.IntRange(100, 20_000), default=3000, show_default=True)
@click.option("--days", type=click.IntRange(60, 3650), default=240, show_default=True, help="Days, up to 2024-06-30.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same files.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("fashion"), show_default=True)
def make_shop(kind: str, customers: int, days: int, seed: int, folder: Path) -> None:
    """Write the files of a synthetic shop: purchases, browsing, catalog, pictures and the YAML file.

    It is for trying things out, and for tests. Its data are made up: docs/fashion.md describes how.
    """
    from rec_assets.datasets.fashion import FashionShop

    if (folder / f"{kind}.yaml").exists():
        raise click.ClickException(f"{folder} has a shop already: delete it, or choose another --folder")
    FashionShop(customers, days, seed).write(folder)
    click.echo(f"Made {folder / f'{kind}.yaml'}. Run the graph on it:")
    click.echo(f"  REC_SOURCE={folder / f'{kind}.yaml'} REC_HOME={folder / 'data'} rec-assets bootstrap")
