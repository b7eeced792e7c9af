"""The documentation: the site builds, the reference is complete, the notebook runs, the words are the field's."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from rec_assets.definitions import defs
from rec_assets.settings import Settings
from rec_assets.sources.check import check_source
from rec_assets.sources.spec import load_data_source
from rec_assets_tests.conftest import BootstrappedShop
from rec_assets_tests.shops import write_giftware_shop

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "notebooks" / "science.ipynb"

PRIVATE_WORDS = re.compile(
    r"\b(wish(?!\[)|shelf|shelves|tired_of|let_go|mend(s|ed|ing)?|heard|foretold|foretell|loud(ly|er|est|ness)?|voices?"
    r"|spoken_for|speaks? (of|for)|anew|models_grown_old|in[ _]force|as ever|unlearned|rulebook|who asks"
    r"|alike_or_none|may_speak_of"
    r"|class (Kept|Past|Live|Placed|Offer|Answerer|Judged|Shown))\b",
    re.IGNORECASE,
)
"""Words of the project's former private language that have no other use here."""

NO_SETTINGS = ("REC_LAKE_FORMAT", "REC_RECIPE__CANDIDATES__LAST_BRAND")
"""One that the docs name because it does not exist, and one of a worked example."""

READMES = ("benchmarks/README.md", "deploy/databricks/README.md")

READ = (".md", ".py", ".yaml", ".yml", ".toml", ".j2", ".js", ".html", ".ipynb", ".sql", ".css")


def load(name: str) -> ModuleType:
    """A module of the folder `docs`, which is not a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def reference() -> Mapping[str, str]:
    """Generated pages by name."""
    pages: Mapping[str, str] = load("reference").generated_pages()
    return pages


def test_the_readme_has_at_most_200_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_page_on_tables_has_the_columns_of_the_code() -> None:
    page = load("reference").tables_page()
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == page, "run `make docs`"


@pytest.mark.integration
def test_the_site_builds_without_warnings_and_all_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    built = subprocess.run(
        [sys.executable, "-W", "ignore", str(DOCS / "build.py"), str(tmp_path / "site")],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    pages = [
        path.relative_to(DOCS).with_suffix(".html") for kind in ("md", "ipynb") for path in DOCS.rglob(f"*.{kind}")
    ]
    assert all((tmp_path / "site" / page).is_file() for page in pages)
    assert not re.search(r'(src|href)="(https?:)?//[^"]+\.(js|css|woff2?)"', (tmp_path / "site/index.html").read_text())


def test_a_link_without_a_target_is_an_error(tmp_path: Path) -> None:
    text, missing = load("build")._rewrite_links(
        "[a](rules.md#kinds) [b](no_such.md)\n```\n[c](not_a_link.md)\n```\n", "docs/serving.md", tmp_path, set()
    )
    assert missing == ["no_such.md"] and "[a](rules.md#kinds)" in text


def test_the_reference_has_every_setting(reference: Mapping[str, str]) -> None:
    page = reference["reference/settings.md"]
    assert [
        name
        for name in variables(Settings(_env_file=None).model_dump(exclude={"databricks"}))
        if f"`{name}`" not in page
    ] == []
    assert "`REC_DATABRICKS__CLUSTER_ID`" in page


def variables(values: Mapping[str, object], prefix: str = "REC_") -> Iterator[str]:
    """Environment variables of settings, given their values."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from variables(value, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def test_the_docs_name_only_settings_that_exist() -> None:
    known = load("reference").setting_variables()
    named = {
        (path.name, name.rstrip("_"))
        for path in (ROOT / "README.md", *DOCS.rglob("*.md"))
        for name in re.findall(r"\bREC_[A-Z0-9_]+", path.read_text(encoding="utf-8"))
        if not name.startswith("REC_BENCH_") and name not in NO_SETTINGS
    }
    groups = {variable.rpartition("__")[0] for variable in known}
    assert [(page, name) for page, name in sorted(named) if name not in known and name not in groups] == []


def test_every_page_first_names_its_readers() -> None:
    pages = [path for path in (*DOCS.rglob("*.md"), *(ROOT / name for name in READMES))]
    heads = {path.relative_to(ROOT): path.read_text(encoding="utf-8").partition("\n")[2].lstrip() for path in pages}
    assert [
        str(page) for page, head in sorted(heads.items()) if not head.startswith(("For ", "This page is for"))
    ] == []


def test_the_reference_has_every_asset_job_schedule_and_sensor(reference: Mapping[str, str]) -> None:
    repository = defs.get_repository_def()
    for page, names in {
        "jobs": [
            *(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
            *(schedule.name for schedule in repository.schedule_defs),
            *(sensor.name for sensor in repository.sensor_defs),
        ],
        "assets": [key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys],
    }.items():
        text = reference[f"reference/{page}.md"]
        assert [name for name in names if f"`{name}`" not in text and f"### {name}\n" not in text] == []


def test_the_reference_has_every_command_and_call(reference: Mapping[str, str]) -> None:
    commands = ("bootstrap", "recommend", "keys add", "rules simulate")
    assert all(f"## rec-assets {name}\n" in reference["reference/cli.md"] for name in commands)
    calls = ("POST /v1/recommendations", "POST /v1/events", "DELETE /v1/customers/{customer_id}", "GET /health/ready")
    assert [call for call in calls if f"### {call}\n" not in reference["reference/api.md"]] == []


def test_no_word_of_the_former_private_language_is_left() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for match in PRIVATE_WORDS.finditer(line.replace(r"\n", " "))
    ]
    assert found == []


def sources() -> Iterator[Path]:
    """Texts that a reader meets; the changelog names old words on purpose."""
    yield from (ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml")
    for folder in ("rec_assets", "rec_assets_tests", "benchmarks", "docs", "deploy"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in READ and path != Path(__file__).resolve() and ".cache" not in path.parts:
                yield path


@pytest.mark.integration
def test_the_yaml_file_of_the_tutorial_describes_its_sample_shop(tmp_path: Path) -> None:
    write_giftware_shop(tmp_path)
    block = re.search(r"```yaml\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    (tmp_path / "shop.yaml").write_text(block[1], encoding="utf-8")
    found = check_source(load_data_source(str(tmp_path / "shop.yaml"), tmp_path))
    assert found.ok and "60 customers" in found.to_text()


@pytest.mark.slow
def test_the_notebook_runs_on_a_small_shop(shop: BootstrappedShop, tmp_path: Path) -> None:
    assert shop.result.returncode == 0
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=shop.environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert re.search(r"hybrid: NDCG@10 0\.[1-9]", run.stdout)
    assert all(not cell.get("outputs") for cell in cells), "the notebook is stored without outputs"
