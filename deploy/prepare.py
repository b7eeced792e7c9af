"""Prepare a shared deployment before its first service starts. You can run it again at any time.

It creates DAGSTER_HOME with dagster.yaml, the tables of Dagster and of the API, and the bucket of the lake.
"""

from pathlib import Path

from rec_assets.automation.instance import open_instance
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.settings import get_settings

settings = get_settings()
with open_instance(settings) as instance:
    storage, configuration = type(instance.event_log_storage).__name__, settings.dagster_home / "dagster.yaml"
    print(f"Dagster: {storage}, configured in {configuration}")

settings.serving.mkdir(parents=True, exist_ok=True)
online = OnlineState(settings.online_url)
online.create()
online.close()
print("API: the tables exist")

if not isinstance(settings.lake, Path):
    bucket = settings.lake.path.partition("/")[0]
    if not settings.lake.fs.exists(bucket):
        settings.lake.fs.mkdir(bucket)
print(f"lake: {settings.lake}")
