"""Routes with the tag `health`: for load balancers and Prometheus, without a key."""

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from rec_assets.serving.http import schemas
from rec_assets.serving.http.shared_metrics import SharedMetrics
from rec_assets.serving.runtime import ServingRuntime


def add_health_routes(app: FastAPI, runtime: ServingRuntime, shared_metrics: SharedMetrics) -> None:
    """Add the routes to the app."""

    @app.get("/health/live", tags=["health"])
    async def liveness() -> schemas.Health:
        """Whether the process responds."""
        return schemas.Health(status="ok")

    @app.get("/health/ready", tags=["health"], responses={503: {"model": schemas.Health}})
    def readiness(response: Response) -> schemas.Health:
        """Whether the API can respond: an index is loaded and the database responds. `warnings` list other problems."""
        missing, engine = runtime.missing(), runtime.engine
        response.status_code = 503 if missing else 200
        return schemas.Health(
            status="not ready" if missing else "ok",
            missing=missing,
            warnings=runtime.warnings(),
            model_version=engine.published.version if engine else None,
            as_of=engine.published.as_of if engine else None,
        )

    @app.get("/metrics", tags=["health"], response_class=Response)
    def metrics() -> Response:
        """Counters and latencies for Prometheus, without customer ids."""
        return Response(shared_metrics.text(), media_type=CONTENT_TYPE_LATEST)
