"""When and how assets are materialized: jobs, plans, sensors, schedules, alerts, rollback, housekeeping."""
