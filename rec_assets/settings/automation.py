"""Settings of automation: schedules, sensors, alerts and housekeeping."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from rec_assets.settings.retention import RetentionSettings


class AutomationSettings(BaseSettings):
    """Schedules, sensors, alerts and housekeeping."""

    nightly_cron: str = Field("30 3 * * *", description="Cron schedule of the job `daily_update`.")
    retrain_cron: str = Field("30 5 * * 0", description="Cron schedule of the job `retrain`.")
    schedule_time_zone: str | None = Field(
        None, description="IANA time zone of the cron schedules. The default is the data source's time zone."
    )
    sensor_interval_seconds: int = Field(30, ge=1, description="Minimum interval in seconds between two sensor ticks.")
    landing_settle_seconds: float = Field(
        60, ge=0, description="Seconds without a change after which a file without a success marker counts as complete."
    )
    alerts_webhook: SecretStr | None = Field(
        None, description="URL that alerts are posted to. Without it, alerts are only logged."
    )
    alerts_format: Literal["json", "slack"] = Field("json", description="Format of the posted alerts.")
    alerts_repeat_hours: float = Field(
        24, gt=0, description="Number of hours after which a failure that continues is reported again."
    )
    retention: RetentionSettings = Field(
        RetentionSettings(), description="Number of days of each table that housekeeping keeps."
    )
    housekeeping_cron: str = Field(
        "0 5 * * *", description="Cron schedule of the job `housekeeping`. Turn the schedule on in the UI."
    )

    @field_validator("alerts_webhook")
    @classmethod
    def _check_webhook(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is None or not webhook.get_secret_value().strip():
            return None
        if not webhook.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return webhook
