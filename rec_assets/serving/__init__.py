"""Serving: the real-time API on a published index. Free of Dagster, Spark and Java.

- `api.py` builds the FastAPI app; `http/` has its routes, schemas, limits, metrics and pages.
- `runtime.py` holds what a worker serves: the current index (`index_files/`) and the online state (`database/`).
- `engine.py` caches responses of one index; `responder.py` builds them; `recommender.py` ranks products.
"""
