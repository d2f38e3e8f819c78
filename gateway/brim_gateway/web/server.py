"""`/health`, `/metrics` and the status page on one port. Answered in the daemon's loop, rendered beside it: a page of
20,000 bins must not make a downlink late."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import uvicorn
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from brim_gateway import logs
from brim_gateway.web import metrics, page
from brim_gateway.web.source import Source

T = TypeVar("T")

STOP_S = 2
CONNECTIONS_MOST = 64
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Renderer:
    """One thread: however many ask, one answer is made at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="brim-web")

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def make_app(source: Source, renderer: Renderer) -> Starlette:
    """The three pages; read-only."""
    templates = Environment(loader=PackageLoader("brim_gateway.web"), autoescape=select_autoescape())
    template = templates.get_template("status.html")

    async def health(_: Request) -> Response:
        # 503 where nothing can be promised: commits fail or do not end. A gateway without bins, or cut off from the
        # city, is healthy: to start it again would mend nothing.
        status = source.status()
        body = {"healthy": status["healthy"], "journal": status["journal"], "since": status["since"]}
        return JSONResponse(body, status_code=200 if status["healthy"] else 503)

    async def metric_text(_: Request) -> Response:
        status, certificates, held = source.status(), source.certificates(), dict(logs.held_back)
        text = await renderer.run(lambda: metrics.render(status, certificates, source.store.states(), held))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def index(request: Request) -> Response:
        asked = request.query_params.get("page", "1")
        number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1
        status, strangers, records = source.status(), source.strangers(), source.directory.by_bin

        def render() -> str:
            return template.render(page.context(status, records, source.store.states(), strangers, number))

        return HTMLResponse(await renderer.run(render), headers=_SECURITY)

    return Starlette(
        routes=[Route("/", index), Route("/health", health), Route("/metrics", metric_text)],
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class WebServer:
    """Serves on a bound, listening socket and takes it over."""

    def __init__(self, source: Source, sock: socket.socket) -> None:
        self._renderer = Renderer()
        config = uvicorn.Config(
            make_app(source, self._renderer),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=CONNECTIONS_MOST,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=STOP_S,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._server = _Server(config)
        self._socket = sock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Finish the requests under way."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._renderer.close()
        self._socket.close()
