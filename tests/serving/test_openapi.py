"""What the server's own description allows is answered, and never by a fault."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.serving.servers import server


def test_every_route_answers_as_described(two_stage_folder, tmp_path):
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    routes = set()
    with server(two_stage_folder, tmp_path) as made:
        schema = schemathesis.openapi.from_url(f"{made.url}/openapi.json")
        for found in schema.get_all_operations():
            operation = found.ok()
            routes.add((operation.method.upper(), operation.path))

            @settings(
                max_examples=12,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def answers(case):
                response = case.call()
                assert response.status_code < 500, response.text
                assert response.headers["content-type"][0].startswith("application/json")
                if response.status_code >= 400:
                    assert set(response.json()) == {"error", "field"}

            answers()
    assert ("POST", "/recommend") in routes
    assert len(routes) == 9
