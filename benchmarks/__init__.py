"""Benchmarks of the hybrid against established models; see README.md. Not part of the installed package."""
