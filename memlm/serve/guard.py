"""What stands before every request: the key, its size and its time; it is counted, and no traceback comes after it."""

import asyncio
import hmac
import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memlm.serve.config import Serving
from memlm.serve.metrics import Metrics
from memlm.serve.wire import Refusal

OPEN = "/", "/health"  # without a key
_DRAINED = 16  # times as much as may be is read and thrown away, so that the client gets to read why


class Guard:
    """Middleware around the whole app.

    Args:
        app: what answers.
        serving: how much a request may be.
        key: what `Authorization: Bearer` must be; empty: nothing is asked.
        paths: that are counted by name; whatever else is asked is `other`, so that names that are made up fill nothing.
        metrics: are told of every request.
    """

    def __init__(self, app: ASGIApp, serving: Serving, key: str, paths: Collection[str], metrics: Metrics):
        self._app, self._serving, self._key, self._paths, self._metrics = app, serving, key, paths, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            try:
                self._check_key(scope)
                await self._app(scope, await self._read(receive), counted)
            except Refusal as refusal:
                await refusal.response()(scope, receive, counted)
        except Exception:
            logging.getLogger(__name__).exception("%s %s", scope["method"], scope["path"][:200])
            if not status:
                refusal = Refusal(
                    500, "an error that should not happen; the server's log has it.", None, "server_error"
                )
                await refusal.response()(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)

    def _check_key(self, scope: Scope) -> None:
        if not self._key or scope["path"] in OPEN:
            return
        told = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(told, b"Bearer " + self._key.encode()):
            raise Refusal(401, "the key is missing or wrong: send Authorization: Bearer KEY.", "invalid_api_key")

    async def _read(self, receive: Receive) -> Receive:
        """Read the body before anything else is done; what hands it on."""
        most, size, parts, more = self._serving.max_bytes, 0, [], True
        try:
            async with asyncio.timeout(self._serving.seconds):
                while more and size <= _DRAINED * most:
                    message = await receive()
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    parts.append(part if size <= most else b"")
        except TimeoutError:
            raise Refusal(408, f"the request did not arrive within {self._serving.seconds:g} seconds.") from None
        if size > most:
            raise Refusal(413, f"the request is larger than {most:,} bytes: send less at once.", "request_too_large")
        first = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        return replay
