"""What the API logs."""

import pytest

from rec_assets_tests.serving.api_client import Client, event

pytestmark = pytest.mark.integration


def test_logs_and_metrics_contain_no_customer_id(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.get("/v1/customers/very-secret-id/recommendations")
        client.get("/v1/customers/very-secret-id/nothing")
        client.send(event(1, customer_id="very-secret-id"))
        client.http.delete("/v1/customers/very-secret-id")
    metrics = client.get("/metrics").text
    messages = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("/v1/events 200" in line for line in messages)
    assert "very-secret-id" not in metrics + " ".join(messages)
    assert 'rec_assets_answers_total{answered_by="popular"} 1.0' in metrics
    assert "rec_assets_model_version 1.0" in metrics


def test_many_rejected_requests_do_not_flood_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    del client.http.headers["X-API-Key"]
    with caplog.at_level("INFO", "rec_assets.access"):
        for _ in range(200):
            client.get("/v1/trending")
        client.get("/health/live")
    lines = [record.getMessage() for record in caplog.records if record.name == "rec_assets.access"]
    assert 60 <= sum("401" in line for line in lines) < 150 and any("/health/live 200" in line for line in lines)
    assert (
        'rec_assets_requests_total{method="GET",route="/v1/trending",status="401"} 200.0' in client.get("/metrics").text
    )
