"""The command line: missing data, wrong settings, and the output of `recommend`."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.cli import main
from rec_assets.resources.lake import Lake
from rec_assets.settings import get_settings

DAYS = [dt.date(2026, 1, 1), dt.date(2026, 1, 8)]


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., CommandResult]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`rec-assets …` in this process, on a REC_HOME that doesn't exist yet."""
    for name in [name for name in os.environ if name.startswith("REC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **variables: str) -> CommandResult:
        get_settings.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["rec-assets", *arguments])
            for name, value in variables.items():
                patched.setenv(name, value)
            try:
                main()
                code: object = 0
            except SystemExit as ended:
                code = ended.code or 0
        output = capsys.readouterr()
        message = f"{code}\n" if isinstance(code, str) else ""
        return CommandResult(1 if message else int(str(code)), output.out, output.err + message)

    yield command
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recommend", "1"), "run `rec-assets bootstrap` first"),
        (("lineage", "1"), "nothing is released as product-recommender yet: run `rec-assets bootstrap` first"),
        (("rollback",), "nothing is released as product-recommender yet: run `rec-assets bootstrap` first"),
        (("off-policy",), "nothing is released as product-recommender yet: run `rec-assets bootstrap` first"),
        (("rules", "simulate"), "there are no rules: set REC_RULES"),
        (("simulate",), "run `rec-assets bootstrap` first"),
        (("storefront",), "run `rec-assets bootstrap` first"),
        (("keys", "revoke", "shop"), "there is no key called 'shop'"),
    ],
)
def test_before_the_bootstrap_a_command_fails_in_one_line_and_creates_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(*arguments)
    assert (result.code, result.err.count("\n")) == (1, 1) and message in result.err, result
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [("keys", "list"), ("rules", "show"), ("experiments",)])
def test_before_the_bootstrap_there_is_nothing_to_show_and_nothing_is_created(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert (result.code, result.out.count("\n")) == (0, 1) and "no" in result.out, result
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [("recommend", "1"), ("keys", "list"), ("keys", "add", "x", "--scope", "read")])
def test_a_home_that_is_a_file_is_reported_in_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "home").touch()
    for home in (tmp_path / "home", tmp_path / "home" / "below"):
        result = run(*arguments, REC_HOME=str(home))
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert f"REC_HOME: {tmp_path / 'home'} is a file: name a folder" in result.err


def test_a_home_without_write_permission_is_reported_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = run("keys", "add", "shop", "--scope", "read")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "Permission denied: REC_HOME must be a folder that you can write to" in result.err


def test_an_unusable_database_is_reported_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "serving" / "online.db").mkdir(parents=True)
    result = run("keys", "list")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "online.db): unable to open database file" in result.err


@pytest.mark.parametrize(
    ("arguments", "setting"), [(("serve",), "REC_API__PORT"), (("ui",), "REC_UI_PORT"), (("ui",), "REC_MLFLOW_PORT")]
)
def test_a_port_in_use_is_reported_before_a_server_starts(run: Run, arguments: tuple[str, ...], setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(*arguments, **{"REC_UI_PORT": "0", setting: str(port)})
    assert result.code == 1 and f"can't listen on 127.0.0.1:{port}" in result.err and f"set {setting}" in result.err


def test_an_unknown_variable_is_reported_with_the_nearest_setting(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REC_NIGHTLY=1 2 * * *\n")
    result = run(
        "experiments", REC_HORIZON="3", REC_RECIPE__RANKR__ROUNDS="9", REC_HORIZON_DAYS="9", REC_SPARK_CONF="{}"
    )
    assert result.code == 0
    assert result.err.splitlines() == [
        "rec-assets: REC_HORIZON is no setting and is ignored: did you mean REC_HORIZON_DAYS?",
        "rec-assets: REC_NIGHTLY is no setting and is ignored: did you mean REC_NIGHTLY_CRON?",
        "rec-assets: REC_RECIPE__RANKR__ROUNDS is no setting and is ignored: did you mean REC_RECIPE__RANKER__ROUNDS?",
    ]


def test_a_setting_with_invalid_json_is_reported(run: Run) -> None:
    assert run("experiments", REC_SPARK_CONF="a=b").err == "rec-assets: REC_SPARK_CONF: must be JSON\n"


def test_a_setting_with_deeply_nested_json_is_reported_in_one_line(run: Run) -> None:
    error = run("experiments", REC_SPARK_CONF='{"a":' * 20_000).err
    assert error == "rec-assets: a variable REC_…: its JSON is nested too deeply\n"


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (("check-source",), "REC_SOURCE"),
        (("ui",), "REC_SOURCE"),
        (("rules", "show"), "REC_RULES"),
        (("rules", "simulate"), "REC_RULES"),
        (("serve",), "REC_RULES"),
        (("serve",), "REC_EXPERIMENTS"),
        (("bootstrap",), "REC_EXPERIMENTS"),
        (("experiments",), "REC_EXPERIMENTS"),
    ],
)
def test_an_invalid_file_is_reported_in_one_line_with_its_position(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], setting: str
) -> None:
    (tmp_path / "broken.yaml").write_text("name: a\nname: &a [*a]\n")
    result = run(*arguments, **{setting: "broken.yaml"})
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert "broken.yaml: can't be read as YAML: line 2, column 1: duplicate key name" in result.err


def test_a_broken_tuned_recipe_is_reported_before_the_bootstrap_starts(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "home" / "tuning" / "recipe.json"
    file.parent.mkdir(parents=True)
    file.write_text("[" * 100_000)
    result = run("bootstrap")
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert f"{file}: values are nested too deeply. Fix the tuned recipe" in result.err


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Lists of one item for ann on two days, and the other tables that `recommend` reads."""
    lake = Lake(tmp_path / "home" / "lake")
    for number, day in enumerate(DAYS):
        item = {
            "customer_id": "ann", "list": "all", "rank": 1, "product_id": ["tea", "mug"][number], "score": 0.25,
            "source": "repeat_purchase", "reason": "you buy this", "rule": [None, "boosted by rule spring"][number],
            "rules_version": "r1", "als_as_of": str(DAYS[0]), "ranker_as_of": str(DAYS[0]),
        }  # fmt: skip
        lake.write("hybrid_scores", pd.DataFrame([item]), day)
        counts = {"product_id": ["tea", "mug"], "category": None, "order_lines": [2, 1], "recent_buyers": [2, 1]}
        lake.write("product_snapshot", pd.DataFrame(counts), day)
    lake.write("products", pd.DataFrame({"product_id": ["tea", "mug"], "title": ["Tea", "Mug"], "category": None}))
    return tmp_path


def test_a_list_in_json_contains_its_sources_rules_and_versions(run: Run, lists: Path) -> None:
    (row,) = json.loads(run("recommend", "ann", "--json").out)
    assert row == {
        "product_id": "mug", "rank": 1, "score": 0.25, "reason": "you buy this", "product": "Mug",
        "source": "repeat_purchase", "rule": "boosted by rule spring", "list": "all", "as_of": "2026-01-08",
        "als_as_of": "2026-01-01", "ranker_as_of": "2026-01-01", "rules_version": "r1",
    }  # fmt: skip
    best = json.loads(run("recommend", "nobody", "--json").out)
    assert [row["product_id"] for row in best] == ["tea", "mug"]
    assert {(row["source"], row["als_as_of"]) for row in best} == {("best_sellers", None)}


def test_recommend_shows_an_earlier_day_and_names_the_available_days(run: Run, lists: Path) -> None:
    (row,) = json.loads(run("recommend", "ann", "--as-of", "2026-01-01", "--json").out)
    assert (row["product_id"], row["as_of"], row["rule"]) == ("tea", "2026-01-01", None)
    result = run("recommend", "ann", "--as-of", "2026-01-02")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "as of 2026-01-02; available days: 2026-01-01, 2026-01-08" in result.err
    assert "does not match the format '%Y-%m-%d'" in run("recommend", "ann", "--as-of", "yesterday").err


def test_the_table_shows_why_a_product_is_in_the_list(run: Run, lists: Path) -> None:
    out = run("recommend", "ann").out
    for text in (
        "Mug",
        "you buy this",
        "repeat_purchase",
        "boosted by rule spring",
        "as of 2026-01-08",
        "rules_version r1",
    ):
        assert text in out
    assert out.splitlines()[-1].startswith("List 'all' as of 2026-01-08; made with als_as_of 2026-01-01")
    assert "made with the best sellers" in run("recommend", "nobody").out
