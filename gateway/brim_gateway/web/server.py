"""`/health`, `/metrics` and the status page on one port, inside the daemon's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from brim_gateway.fleet import commands
from brim_gateway.web import metrics
from brim_gateway.web.source import Source

STOP_S = 2
CONNECTIONS_MOST = 64
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_app(source: Source) -> Starlette:
    """The three pages; read-only."""
    templates = Environment(loader=PackageLoader("brim_gateway.web"), autoescape=select_autoescape())
    page = templates.get_template("status.html")

    async def health(_: Request) -> Response:
        status = source.status()
        body = {"healthy": status["healthy"], "journal": status["journal"], "since": status["since"]}
        return JSONResponse(body, status_code=200 if status["healthy"] else 503)

    async def metric_text(_: Request) -> Response:
        return Response(metrics.render(source), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def index(_: Request) -> Response:
        html = page.render(status=source.status(), bins=commands.listing(source.reader))
        return HTMLResponse(html, headers=_SECURITY)

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
        config = uvicorn.Config(
            make_app(source),
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
        self._socket.close()
