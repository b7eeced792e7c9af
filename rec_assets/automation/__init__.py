"""When things run: jobs, plans and their execution, sensors, schedules, alerts, rollback, housekeeping."""
