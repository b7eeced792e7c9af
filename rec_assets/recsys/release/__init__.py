"""The release gate: compare a challenger with the champion; `resources/releases.py` has the registry."""
