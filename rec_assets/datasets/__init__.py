"""Adapters of public data to the landing format, and the YAML files of the built-in sources."""
