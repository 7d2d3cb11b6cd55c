"""A typed client of the server, on Python's standard library.

from recsys.serving.client import Client

with Client("http://127.0.0.1:8000") as client:
    answer = client.recommend({"user_id": "u1"}, k=10)
    client.feedback([FeedbackEvent(answer.items[0].item_id, "click", answer.request_id)])
"""

from __future__ import annotations

import contextlib
import http.client
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import msgspec

from recsys.schema.errors import InputError
from recsys.serving.messages import (
    AvailabilityAnswer,
    AvailabilityRequest,
    BundleAnswer,
    BundleRequest,
    ErrorAnswer,
    FeedbackAnswer,
    FeedbackEvent,
    FeedbackRequest,
    ForgottenAnswer,
    ItemsAnswer,
    ItemsRequest,
    Recommendation,
    RecommendRequest,
    UserAnswer,
)
from recsys.serving.records import Id

T = TypeVar("T")
_OVERLOADED = 503


class ServerError(RuntimeError):
    """The server could not answer.

    Args:
        status: of HTTP.
        message: why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})")
        self.status = status


class UnreachableError(InputError):
    """No server answers at the address."""


class RefusedError(InputError):
    """The server refused a request for what was in it.

    Args:
        message: why.
        field: which field it is about.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class Client:
    """A connection to a server; for one thread.

    Args:
        url: of the server, as in `http://127.0.0.1:8000`.
        token: that it asks for.
        timeout_seconds: for an answer.
        attempts: how often an overloaded server, or one that is away, is asked. Asking again is safe where
            events have ids, and for those that refer to a list.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout_seconds: float = 30.0, attempts: int = 3
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"expected the address of a server, as in `http://127.0.0.1:8000`, got `{url}`")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_seconds)
        self._url = url
        self._attempts = attempts
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def recommend(self, user: dict[str, Any], k: int = 10, **more: Any) -> Recommendation:
        """A list for a user.

        Args:
            user: `user_id` and fields.
            k: length of the list.
            **more: see `recsys.serving.messages.RecommendRequest`.
        """
        return self._post("/recommend", RecommendRequest(user=user, k=k, **more), Recommendation)

    def feedback(self, events: Sequence[FeedbackEvent]) -> FeedbackAnswer:
        """Tells what people did; returns once it can't be lost any more."""
        return self._post("/feedback", FeedbackRequest(list(events)), FeedbackAnswer)

    def add_items(self, items: Sequence[dict[str, Any]]) -> int:
        """Adds items to the catalogue; how many were new."""
        return self._post("/items", ItemsRequest(list(items)), ItemsAnswer).added

    def set_available(self, item_ids: Sequence[Id], available: bool) -> int:
        """Says whether items may be recommended; how many the catalogue knows."""
        request = AvailabilityRequest(list(item_ids), available)
        return self._post("/items/availability", request, AvailabilityAnswer).known

    def user(self, user_id: Id) -> UserAnswer:
        """Gets what the server knows of a user."""
        return msgspec.json.decode(self._ask("GET", _user_path(user_id)), type=UserAnswer)

    def forget(self, user_id: Id) -> bool:
        """Forgets a user."""
        return msgspec.json.decode(self._ask("DELETE", _user_path(user_id)), type=ForgottenAnswer).forgotten

    def exchange_bundle(self, path: str) -> str:
        """Serves by another bundle; its fingerprint."""
        return self._post("/bundle", BundleRequest(path=path), BundleAnswer).bundle

    def return_to_last_bundle(self) -> str:
        """Serves by the bundle before this one; its fingerprint."""
        return self._post("/bundle", BundleRequest(back=True), BundleAnswer).bundle

    def ready(self) -> dict[str, Any]:
        """Says that the server answers, and by which bundle."""
        answer: dict[str, Any] = msgspec.json.decode(self._ask("GET", "/ready"))
        return answer

    def _post(self, path: str, request: Any, kind: type[T]) -> T:
        return msgspec.json.decode(self._ask("POST", path, msgspec.json.encode(request)), type=kind)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        for attempt in range(1, self._attempts + 1):
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if attempt == self._attempts:
                    raise UnreachableError(
                        f"`{self._url}` does not answer: {error}; start the server, or name another one"
                    ) from error
                time.sleep(0.1 * attempt)
                continue
            if response.status == _OVERLOADED and attempt < self._attempts:
                time.sleep(float(response.headers.get("retry-after", 1)))
                continue
            return _checked(response.status, content)
        raise AssertionError("the last attempt answers or raises")


def _checked(status: int, content: bytes) -> bytes:
    if status < 400:
        return content
    answer = ErrorAnswer(content.decode(errors="replace"), "")
    with contextlib.suppress(msgspec.MsgspecError):
        answer = msgspec.json.decode(content, type=ErrorAnswer)
    if status < 500:
        raise RefusedError(answer.error, field=answer.field)
    raise ServerError(status, answer.error)


def _user_path(user_id: Id) -> str:
    return f"/users/{urllib.parse.quote(str(user_id), safe='')}"
