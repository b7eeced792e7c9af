"""Benchmarks of the hybrid against well-kept peers; see README.md. Not part of the installed package."""
