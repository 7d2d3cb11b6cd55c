"""HTTP: routes, reading of requests, and errors; what is done is in `recsys.serving.service`."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.schema.errors import InputError
from recsys.serving import messages
from recsys.serving.openapi import openapi
from recsys.serving.service import Overloaded, Service, check_id
from recsys.serving.store.interface import StoreAway

logger = logging.getLogger(__name__)

_JSON = "application/json"
_RETRY_SECONDS = 1
_BODY_SECONDS = 30
_OPEN_PATHS = ("/health", "/ready", "/")
_encoder = msgspec.json.Encoder()


class BodyTooLargeError(InputError):
    """A body beyond the limit."""


class BodyTooSlowError(InputError):
    """A body that does not come to its end in time."""


def make_app(service: Service) -> ASGIApp:
    """The application of a process."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        leaving = asyncio.create_task(_leave_metrics(service))
        yield
        leaving.cancel()
        await asyncio.to_thread(service.close)

    posts: list[tuple[str, Any, Callable[..., Awaitable[Any]]]] = [
        ("/recommend", messages.RecommendRequest, service.recommend),
        ("/feedback", messages.FeedbackRequest, service.feedback),
        ("/items", messages.ItemsRequest, service.add_items),
        ("/items/availability", messages.AvailabilityRequest, service.set_available),
        ("/bundle", messages.BundleRequest, service.exchange),
    ]

    async def user(request: Request) -> Any:
        user_id = request.path_params["user_id"]
        check_id(user_id, field="user_id")
        return service.user(user_id) if request.method == "GET" else await service.forget(user_id)

    async def ready(request: Request) -> Any:
        return {
            "ready": True,
            "bundle": service.box.current.fingerprint,
            "bundle_path": str(service.box.current.folder),
            "folder": str(service.options.folder.resolve()),
            "lag": service.journal.lag(),
        }

    async def health(request: Request) -> Any:
        return {"status": "ok"}

    async def described(request: Request) -> Any:
        return openapi()

    async def metrics(request: Request) -> Any:
        text = service.metrics.text(await asyncio.to_thread(service.gauges))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def page(request: Request) -> Any:
        return HTMLResponse(resources.files("recsys.serving.page").joinpath("index.html").read_text())

    async def live(request: Request) -> Any:
        return StreamingResponse(_figures(service, request), media_type="text/event-stream")

    guard = _Guard(service)
    posted = {path: guard.posted(path, kind, act) for path, kind, act in posts}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posted.items()]
    routes += [
        Route("/users/{user_id:path}", guard.asked("/users", user), methods=["GET", "DELETE"]),
        Route("/health", guard.asked("/health", health), methods=["GET"]),
        Route("/ready", guard.asked("/ready", ready), methods=["GET"]),
        Route("/metrics", guard.asked("/metrics", metrics), methods=["GET"]),
        Route("/openapi.json", guard.asked("/openapi.json", described), methods=["GET"]),
        Route("/live", guard.asked("/live", live), methods=["GET"]),
        Route("/", guard.asked("/", page), methods=["GET"]),
    ]
    others = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})
    return _posts_first(posted, others)


def _posts_first(posted: Mapping[str, ASGIApp], others: ASGIApp) -> ASGIApp:
    """Sends posts straight to their endpoints: routes and middleware would take as long as the work."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        await ((posted.get(scope["path"]) if is_post else None) or others)(scope, receive, send)

    return app


class _Endpoint:
    """Serves one route as an application of its own."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


class _Guard:
    """Wraps what a route does: token, reading, timing, and errors as the contract says."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = int(service.options.max_body_megabytes * 2**20)

    def posted(self, path: str, kind: type[Any], act: Callable[[Any], Awaitable[Any]]) -> _Endpoint:
        """An endpoint that reads a JSON body of a kind."""
        decoder = msgspec.json.Decoder(kind)

        async def endpoint(request: Request) -> Any:
            return await act(decoder.decode(await self._body(request)))

        return self.asked(path, endpoint)

    def asked(self, path: str, act: Callable[[Request], Awaitable[Any]]) -> _Endpoint:
        """An endpoint that answers with JSON, or with the response that `act` made."""

        async def endpoint(request: Request) -> Response:
            begin = time.perf_counter()
            response = self._refused(request) or await self._answered(act, request)
            metrics = self._service.metrics
            metrics.count("recsys_requests_total", route=path, status=str(response.status_code))
            metrics.took(time.perf_counter() - begin, route=path)
            return response

        return _Endpoint(endpoint)

    async def _answered(self, act: Callable[[Request], Awaitable[Any]], request: Request) -> Response:
        try:
            answer = await act(request)
        except msgspec.ValidationError as error:
            return _error(422, str(error), _field_of(error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _error(400, f"expected a body of JSON, received something else: {error}", "")
        except RecursionError:
            return _error(400, "expected a body of JSON, received one that is nested too deeply", "")
        except BodyTooLargeError as error:
            return _error(413, str(error), "")
        except BodyTooSlowError as error:
            return _error(408, str(error), "", {"connection": "close"})
        except ClientDisconnect:
            return _error(400, "the client went away before its body was there", "")
        except InputError as error:
            return _error(422, str(error), getattr(error, "field", ""))
        except (Overloaded, StoreAway) as error:
            message = str(error) or "too many requests wait; try again"
            return _error(503, message, "", {"retry-after": str(_RETRY_SECONDS)})
        except Exception:
            logger.exception("%s %s", request.method, request.url.path)
            return _error(500, "a fault of the server; its log says more", "")
        return answer if isinstance(answer, Response) else _json(answer)

    def _refused(self, request: Request) -> Response | None:
        """Why a request is not even read, if so."""
        token = self._service.options.token
        if token is not None and request.scope["path"] not in _OPEN_PATHS:
            given = request.headers.get("authorization", "")
            expected = f"Bearer {token}"
            if not hmac.compare_digest(given.encode(), expected.encode()):
                return _error(401, "expected `Authorization: Bearer TOKEN`, received another or none", "")
        # A page of another site, open in a browser of this machine, may not speak for its user.
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            return _error(403, f"expected a page of this server, received a request from {origin}", "")
        return None

    async def _body(self, request: Request) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > self._limit:
                        raise BodyTooLargeError(
                            f"expected a body of at most {self._limit} bytes; send it in parts"
                        )
                    parts.append(part)
        except TimeoutError:
            raise BodyTooSlowError(
                f"expected the whole body within {_BODY_SECONDS} seconds, received {size} bytes of it"
            ) from None
        return b"".join(parts)


def _json(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encoder.encode(answer), status, headers=headers, media_type=_JSON)


def _error(status: int, message: str, field: str, headers: dict[str, str] | None = None) -> Response:
    # What is shown back may hold lone surrogates, which JSON has no place for.
    plain = message.encode("utf-8", "replace").decode()
    return _json(messages.ErrorAnswer(plain, field), status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(
        error.status_code,
        f"{request.method} {request.url.path}: {error.detail}",
        "",
        dict(error.headers or {}),
    )


def _field_of(error: msgspec.ValidationError) -> str:
    """The field that msgspec's message is about, as in `events[0].item_id`."""
    at = re.search(r"at `\$\.?(.*)`$", str(error))
    unknown = re.search(r"unknown field `(.*?)`|required field `(.*?)`", str(error))
    path = at.group(1) if at else ""
    name = next((one for one in unknown.groups() if one), "") if unknown else ""
    return ".".join(part for part in (path, name) if part)


async def _leave_metrics(service: Service) -> None:
    while True:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(service.metrics.leave)


async def _figures(service: Service, request: Request) -> AsyncIterator[bytes]:
    """Figures for the page, once a second, as server-sent events."""
    while not await request.is_disconnected():
        figures = service.metrics.totals() | await asyncio.to_thread(service.gauges)
        yield b"data: " + _encoder.encode(figures) + b"\n\n"
        await asyncio.sleep(1.0)
