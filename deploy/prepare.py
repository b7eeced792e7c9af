"""What a shared deployment needs before its first part starts; run it again at any time.

Makes DAGSTER_HOME with its dagster.yaml, the tables of Dagster and of the API, and the lake's bucket.
"""

from pathlib import Path

from rec_assets.automation.execution import open_instance
from rec_assets.serving.online import OnlineState
from rec_assets.settings import get_settings

settings = get_settings()
with open_instance(settings) as instance:
    print(f"Dagster: {instance.event_log_storage.__class__.__name__} by {settings.dagster_home / 'dagster.yaml'}")

settings.serving.mkdir(parents=True, exist_ok=True)
online = OnlineState(settings.online_url)
online.create()
online.close()
print("API: its tables are there")

if not isinstance(settings.lake, Path):
    bucket = settings.lake.path.partition("/")[0]
    if not settings.lake.fs.exists(bucket):
        settings.lake.fs.mkdir(bucket)
print(f"lake: {settings.lake}")
