"""The HTTP interface: routes, schemas, authentication, limits, metrics and pages."""
