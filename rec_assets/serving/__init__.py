"""Serving: the real-time API on a published index. Free of Dagster, Spark and Java.

- `api.py` builds the FastAPI app; `http/` has its routes, schemas, limits, metrics and pages.
- `runtime.py` holds what a worker serves: the current index (`index_files/`) and the online state (`database/`).
- For a request, `engine.py` (one index and its caches) asks `responder.py` for the response, and that asks
  `recommender.py` to rank products: `RankedCandidates` (with scores) → `RankedItems` (filtered, re-ranked) →
  `RecommendationResponse` (the first k).
"""
