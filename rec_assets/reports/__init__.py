"""Reports on request, one module for each: the lineage of a release, an off-policy estimate, a simulation of rules.

Dagster: a report has arguments. As an asset, it would need a partition for each combination of them.
"""
