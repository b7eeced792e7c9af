"""Built-in data sources: their YAML files, and adapters that land public data sets."""
