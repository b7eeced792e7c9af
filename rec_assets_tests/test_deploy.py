"""The files of deploy/ match the code, the settings and each other. No container engine is needed."""

import importlib.metadata
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from upath import UPath

from rec_assets.automation.instance import DATABASE_VARIABLE
from rec_assets.settings import Settings, get_settings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(:\?[^}]*)?\}")


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = [line for line in (DEPLOY / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]


def filled(name: str) -> str:
    """A possible value of a variable."""
    return example()[name] or "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """compose.yaml with all variables replaced and all anchors merged."""
    text = VARIABLE.sub(lambda found: filled(found[1]), (DEPLOY / "compose.yaml").read_text())
    return dict(yaml.safe_load(text))


def services_of_our_image(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The services that run the image of rec_assets."""
    return ((name, service) for name, service in compose["services"].items() if service["image"] == "rec_assets")


def test_compose_yaml_conforms_to_the_compose_specification(compose: dict[str, Any]) -> None:
    def read(text: str) -> None:
        found = compose_spec.PyCompose.from_yaml(text)
        found.validate()
        found.to_spec()

    text = yaml.safe_dump(compose)
    read(text)
    with pytest.raises(ValueError):  # the validation finds errors
        read(text.replace("healthcheck:", "healthchek:"))


def test_the_example_has_exactly_the_used_variables() -> None:
    used = {found[1] for found in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text())}
    assert used == set(example())


def test_secrets_have_no_value_in_the_example_and_are_required() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    secrets = [name for name, value in example().items() if not value]
    assert secrets == ["POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "API_CUSTOMER_SECRET"]
    assert all(f"${{{name}:?" in text for name in secrets)


def test_every_rec_variable_is_a_valid_setting(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("REC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name_of_service, service in services_of_our_image(compose):
        variables = {
            name: str(value) for name, value in service.get("environment", {}).items() if name.startswith("REC_")
        }
        for name, value in variables.items():
            field, _, inner = name.removeprefix("REC_").lower().partition("__")
            fields = Settings.model_fields[field].annotation.model_fields if inner else Settings.model_fields  # type: ignore[union-attr]
            assert (inner or field) in fields, f"{name_of_service}: {name}"
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.lake) == "s3://rec-assets/lake"
    assert settings.mlflow_is_server and settings.mlflow_ui_base_url == "http://localhost:5000"
    assert settings.api.host == "0.0.0.0"


def test_named_services_volumes_and_files_exist(compose: dict[str, Any]) -> None:
    services, volumes = compose["services"], set()
    for name, service in services.items():
        for dependency, condition in service.get("depends_on", {}).items():
            assert dependency in services, (name, dependency)
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[dependency], (name, dependency)
            else:
                assert services[dependency]["restart"] == "no", (name, dependency)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and source != example()["SHOP_FOLDER"]:
                assert (DEPLOY / source).is_file(), (name, source)
            elif not source.startswith("./"):
                volumes.add(source)
    assert volumes == set(compose["volumes"])
    for service in services.values():
        for value in [str(value) for value in service.get("environment", {}).values()]:
            for host in re.findall(r"(?:@|http://)(\w+)[:/]", value):
                assert host in services or host == "localhost", value


def test_commands_exist(compose: dict[str, Any]) -> None:
    scripts = {entry.name for entry in importlib.metadata.entry_points(group="console_scripts")} | {"python"}
    for name, service in services_of_our_image(compose):
        assert service["command"][0] in scripts, name
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][:1] == ["CMD"] and service["healthcheck"]["test"][1] in scripts, name


def test_the_image_copies_existing_files(compose: dict[str, Any]) -> None:
    text, build = (DEPLOY / "Dockerfile").read_text(), compose["x-rec-assets"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()
    copied = [source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied), copied
    names = {Path(source).name for source in copied}
    assert {"prepare.py", "workspace.yaml"} <= names
    extras = re.findall(r'"\.\[(.+)\]"', text)[0].split(",")
    known = importlib.metadata.metadata("rec_assets").get_all("Provides-Extra") or []
    assert set(extras) <= {*known, "s3"}


def test_ports_match_between_services(compose: dict[str, Any]) -> None:
    services = compose["services"]
    (location,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    server = location["grpc_server"]
    assert server["host"] in services and f"--port={server['port']}" in services[server["host"]]["command"]
    assert f"--port={server['port']}" in services[server["host"]]["healthcheck"]["test"]
    assert str(services["api"]["environment"]["REC_API__PORT"]) in services["api"]["healthcheck"]["test"][-1]
    for name in ("mlflow", "webserver"):
        port = services[name]["ports"][0].split(":")[-1]
        assert (
            f"--port={port}" in services[name]["command"] and f":{port}/" in services[name]["healthcheck"]["test"][-1]
        )
        assert services[name]["ports"][0].startswith("127.0.0.1:"), "the UIs have no login"


def test_every_service_has_its_own_database(compose: dict[str, Any]) -> None:
    values = [
        str(value) for _, service in services_of_our_image(compose) for value in service.get("environment", {}).values()
    ]
    named = {found[1] for value in values for found in re.finditer(r"@postgres/(\w+)", value)}
    made = set(re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "databases.sql").read_text()))
    assert named == made == {"dagster", "mlflow", "online"}


def test_prepare_can_run_twice(
    database: str, bucket: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REC_HOME", str(tmp_path))
    monkeypatch.setenv("REC_LAKE", "s3://new-bucket/lake")
    monkeypatch.setenv(DATABASE_VARIABLE, database)
    monkeypatch.setenv("REC_API__DATABASE_URL", database.replace("+psycopg2:", "+psycopg:"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    get_settings.cache_clear()
    try:
        for _ in range(2):
            runpy.run_path(str(DEPLOY / "prepare.py"))
            assert "PostgresEventLogStorage" in capsys.readouterr().out
    finally:
        get_settings.cache_clear()
    assert bucket.fs.exists("new-bucket")
    assert "env: REC_DAGSTER_DATABASE_URL" in (tmp_path / "dagster" / "dagster.yaml").read_text()
