"""Commands about merchandising rules: rules show, rules simulate."""

from __future__ import annotations

import click

from rec_assets.settings import get_settings


@click.group()
def rules() -> None:
    """Show or simulate merchandising rules."""


@rules.command("show")
def show_rules() -> None:
    """Print the effect of each rule on the catalog. The command also checks the rules file (REC_RULES)."""
    from tabulate import tabulate

    from rec_assets.recsys.rules.rules_file import read_rules
    from rec_assets.reports.rule_simulation import inspect_rules

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
    headers = ["rule set", "rule", "kind", "products hidden", "not in the catalog"]
    no_rules = "no rules: set REC_RULES to a YAML file (docs/rules.md)"
    click.echo(tabulate(rows, headers=headers) if rows else no_rules)


@rules.command("simulate")
@click.argument("rule_sets", nargs=-1)
def simulate_rules(rule_sets: tuple[str, ...]) -> None:
    """Re-rank past lists with RULE_SETS. Without RULE_SETS, it takes all sets. Later purchases evaluate the lists.

    The command prints a table and writes a page.
    """
    from tabulate import tabulate

    from rec_assets.recsys.rules.simulation_page import format_change
    from rec_assets.reports.rule_simulation import simulate_rules as run_simulation

    simulated, path = run_simulation(get_settings(), list(rule_sets), click.echo)
    rows = [
        [
            name, f"{row['ndcg']:.4f}", format_change(row["ndcg_change"]), format_change(row["ndcg_novel_change"]),
            f"{row['coverage']:.1%}", format_change(row["coverage_change"]), format_change(row["revenue_change"]),
            format_change(row["expected_revenue_change"]),
        ]
        for name, row in simulated.table.to_dict("index").items()
    ]  # fmt: skip
    headers = ["rule set", "NDCG@10", "change", "novel", "coverage", "change", "purchase value", "expected value"]
    click.echo(tabulate(rows, headers=headers, disable_numparse=True))
    click.echo(f"\nPage: {path}")
