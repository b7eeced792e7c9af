"""May a challenger be released? The gate's rules and its page; the registry is in `resources/releases.py`."""
