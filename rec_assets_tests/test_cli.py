"""The command line at its edges: what isn't there yet, what is set wrongly, and what a list in JSON tells."""

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
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`rec-assets …` in this process, on a REC_HOME that isn't there yet."""
    for name in [each for each in os.environ if each.startswith("REC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **variables: str) -> Said:
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
        found = capsys.readouterr()
        said = f"{code}\n" if isinstance(code, str) else ""
        return Said(1 if said else int(str(code)), found.out, found.err + said)

    yield command
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "says"),
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
def test_before_any_bootstrap_a_command_says_what_is_missing_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    found = run(*arguments)
    assert (found.code, found.err.count("\n")) == (1, 1) and says in found.err, found
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [("keys", "list"), ("rules", "show"), ("experiments",)])
def test_before_any_bootstrap_there_is_nothing_to_show_and_nothing_is_left_behind(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    found = run(*arguments)
    assert (found.code, found.out.count("\n")) == (0, 1) and "no" in found.out, found
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [("recommend", "1"), ("keys", "list"), ("keys", "add", "x", "--scope", "read")])
def test_a_home_that_is_a_file_is_said_in_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "home").touch()
    for home in (tmp_path / "home", tmp_path / "home" / "below"):
        found = run(*arguments, REC_HOME=str(home))
        assert (found.code, found.err.count("\n")) == (1, 1)
        assert f"REC_HOME: {tmp_path / 'home'} is a file: name a folder" in found.err


def test_a_home_that_can_t_be_written_is_said_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    found = run("keys", "add", "shop", "--scope", "read")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "Permission denied: REC_HOME must be a folder that you may write to" in found.err


def test_a_database_that_can_t_be_used_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "serving" / "online.db").mkdir(parents=True)
    found = run("keys", "list")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "online.db) can't be used: unable to open database file" in found.err


@pytest.mark.parametrize(
    ("arguments", "setting"), [(("serve",), "REC_API__PORT"), (("ui",), "REC_UI_PORT"), (("ui",), "REC_MLFLOW_PORT")]
)
def test_a_port_in_use_is_said_before_a_server_starts(run: Run, arguments: tuple[str, ...], setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = run(*arguments, **{"REC_UI_PORT": "0", setting: str(port)})
    assert found.code == 1 and f"can't listen on 127.0.0.1:{port}" in found.err and f"set {setting}" in found.err


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REC_NIGHTLY=1 2 * * *\n")
    found = run(
        "experiments", REC_HORIZON="3", REC_RECIPE__RANKR__ROUNDS="9", REC_HORIZON_DAYS="9", REC_SPARK_CONF="{}"
    )
    assert found.code == 0
    assert found.err.splitlines() == [
        "rec-assets: REC_HORIZON is no setting and is ignored: did you mean REC_HORIZON_DAYS?",
        "rec-assets: REC_NIGHTLY is no setting and is ignored: did you mean REC_NIGHTLY_CRON?",
        "rec-assets: REC_RECIPE__RANKR__ROUNDS is no setting and is ignored: did you mean REC_RECIPE__RANKER__ROUNDS?",
    ]


def test_a_setting_that_is_no_json_is_named(run: Run) -> None:
    assert run("experiments", REC_SPARK_CONF="a=b").err == "rec-assets: REC_SPARK_CONF: must be JSON\n"


def test_a_setting_whose_json_is_nested_too_deeply_is_refused_in_a_line(run: Run) -> None:
    said = run("experiments", REC_SPARK_CONF='{"a":' * 20_000).err
    assert said == "rec-assets: a variable REC_…: its JSON is nested too deeply\n"


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
def test_a_file_that_can_t_be_used_is_one_line_with_its_place(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], setting: str
) -> None:
    (tmp_path / "broken.yaml").write_text("name: a\nname: &a [*a]\n")
    found = run(*arguments, **{setting: "broken.yaml"})
    assert found.code == 1 and len(found.err.splitlines()) == 1
    assert "broken.yaml: not readable as YAML: line 2, column 1: name stands here a second time" in found.err


def test_a_broken_tuned_recipe_is_named_before_a_bootstrap_begins(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "home" / "tuning" / "recipe.json"
    file.parent.mkdir(parents=True)
    file.write_text("[" * 100_000)
    found = run("bootstrap")
    assert found.code == 1 and len(found.err.splitlines()) == 1
    assert f"{file}: values are nested too deeply. Fix the tuned recipe" in found.err


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Two days of lists for ann, of one entry each, and the tables beside them."""
    lake = Lake(tmp_path / "home" / "lake")
    for number, day in enumerate(DAYS):
        entry = {
            "customer_id": "ann", "list": "all", "rank": 1, "product_id": ["tea", "mug"][number], "score": 0.25,
            "source": "own", "reason": "you buy this", "rule": [None, "boosted by rule spring"][number],
            "rules_version": "r1", "als_version": str(DAYS[0]), "ranker_version": str(DAYS[0]),
        }  # fmt: skip
        lake.write("hybrid_scores", pd.DataFrame([entry]), day)
        counts = {"product_id": ["tea", "mug"], "orders": [2, 1], "recent_buyers": [2, 1]}
        lake.write("product_statistics", pd.DataFrame(counts), day)
    lake.write("products", pd.DataFrame({"product_id": ["tea", "mug"], "title": ["Tea", "Mug"], "category": None}))
    return tmp_path


def test_a_list_in_json_says_what_it_is_and_what_made_it(run: Run, lists: Path) -> None:
    (row,) = json.loads(run("recommend", "ann", "--json").out)
    assert row == {
        "product_id": "mug", "rank": 1, "score": 0.25, "reason": "you buy this", "product": "Mug",
        "source": "own", "rule": "boosted by rule spring", "list": "all", "as_of": "2026-01-08",
        "als_version": "2026-01-01", "ranker_version": "2026-01-01", "rules_version": "r1",
    }  # fmt: skip
    best = json.loads(run("recommend", "nobody", "--json").out)
    assert [each["product_id"] for each in best] == ["tea", "mug"]
    assert {(each["source"], each["als_version"]) for each in best} == {("segment", None)}


def test_lists_of_an_earlier_day_are_shown_and_a_day_without_names_those_there_are(run: Run, lists: Path) -> None:
    (row,) = json.loads(run("recommend", "ann", "--as-of", "2026-01-01", "--json").out)
    assert (row["product_id"], row["as_of"], row["rule"]) == ("tea", "2026-01-01", None)
    found = run("recommend", "ann", "--as-of", "2026-01-02")
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "as of 2026-01-02; there are of 2026-01-01, 2026-01-08" in found.err
    assert "does not match the format '%Y-%m-%d'" in run("recommend", "ann", "--as-of", "yesterday").err
