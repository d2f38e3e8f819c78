"""The daemon's Unix socket: one JSON line asks, one JSON line answers.

The socket file is 0600: whoever may open it may also read the database. Keys that were just made travel over it,
so that the command line can write them to a file of its user's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from brim_gateway.errors import ConfigInvalid, GatewayError, RegistryError, StoreFault

log = logging.getLogger("brim.control")

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A registry of 20,000 bins with their keys."""
MAX_CLIENTS = 8
IDLE_S = 60.0
ANSWER_WITHIN_S = 300.0

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class ControlServer:
    """Serves ``handler(verb, args)``; its GatewayErrors go to the caller, other faults to the log."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._made: os.stat_result | None = None

    async def start(self) -> None:
        """Raises StoreFault where the socket cannot be made. Only a socket left behind by a dead daemon is replaced."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _clear(self._path)
            before = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)
            finally:
                os.umask(before)
            self._made = self._path.lstat()
        except OSError as exc:
            raise StoreFault(f"control socket {self._path}: {exc}") from None

    async def stop(self) -> None:
        """Close the socket and what is connected."""
        if self._server is not None:
            self._server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            if _same(self._path, self._made):
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_S):
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):
            pass  # silent, too long, or gone: this client's own affair
        except asyncio.CancelledError:
            pass  # only stop does this; asyncio would log a client that ends as cancelled with a traceback
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb, args = request["verb"], request.get("args", {})
            if not isinstance(verb, str) or not isinstance(args, dict):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
            return {"error": "request", "problems": ['a request is {"verb": "…", "args": {…}}']}
        try:
            return {"ok": await self._handler(verb, args)}
        except (RegistryError, ConfigInvalid) as exc:
            return {"error": "refused", "problems": exc.problems}
        except GatewayError as exc:
            return {"error": "failed", "problems": [str(exc)]}
        except Exception:
            log.exception("fault in a control request")
            return {"error": "failed", "problems": ["a fault of the gateway; its log has the details"]}


def _same(path: Path, made: os.stat_result | None) -> bool:
    """Whether the file there is still the one that was made: another daemon's must stay."""
    try:
        now = path.lstat()
    except OSError:
        return False
    return made is not None and (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino)


def _clear(path: Path) -> None:
    """Take away what a killed daemon left. Raises StoreFault for anything that is not that."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StoreFault(f"control socket {path}: there is something else of that name; move it away")
    if answers(path):
        raise StoreFault(f"control socket {path}: another gateway answers there; stop it, or name another socket")
    path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Whether a process listens on the socket ``path``. Raises OSError where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):
            pass  # its queue is full: somebody is there
    return True


def ask(path: Path, verb: str, args: dict[str, Any]) -> Any:
    """One question to a running daemon. Raises ConnectionError where none runs, else the daemon's GatewayError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_WITHIN_S)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise ConnectionError("no daemon") from None
        except OSError as exc:
            raise StoreFault(f"control socket {path}: {exc.strerror or exc}; run as the gateway's user") from None
        try:
            connection.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(MAX_LINE_BYTES)
        except TimeoutError:
            raise StoreFault(f"control socket {path}: no answer within {ANSWER_WITHIN_S:.0f} s") from None
        except OSError:
            line = b""
    if not line.endswith(b"\n"):
        hint = f"it stops, or {MAX_CLIENTS} others ask; try again"
        raise StoreFault(f"control socket {path}: the gateway hung up without an answer: {hint}")
    answer = json.loads(line)
    if "error" in answer:
        problems = [str(text) for text in answer.get("problems", ["unknown fault"])]
        if answer["error"] == "failed":
            raise StoreFault(problems[0])
        raise RegistryError(problems)
    return answer.get("ok")
