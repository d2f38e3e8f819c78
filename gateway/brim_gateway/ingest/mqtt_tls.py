"""TLS on an accepted connection with buffers that suit a bin.

asyncio keeps a read buffer of 256 KiB for each TLS connection, and takes as much again in for a reader that has paused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

BUFFER_BYTES = 16 * 1024
"""One TLS record."""
SHUTDOWN_S = 2.0


class SmallTls(SSLProtocol):
    """asyncio's own TLS with a read buffer of one record. ``heard`` is called whenever bytes arrive."""

    max_size = BUFFER_BYTES

    def __init__(
        self,
        session: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        shaken: asyncio.Future[None],
        within_s: int,
        heard: Callable[[], None],
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            session,
            context,
            shaken,
            server_side=True,
            ssl_handshake_timeout=within_s,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
        self._app_transport.set_read_buffer_limits(BUFFER_BYTES)
        self._heard = heard

    def buffer_updated(self, nbytes: int) -> None:
        self._heard()
        super().buffer_updated(nbytes)


async def accept_tls(
    connection: socket.socket,
    session: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    within_s: int,
    heard: Callable[[], None],
) -> None:
    """Shake hands; then ``session`` has the connection. Raises OSError where the handshake fails or takes too long;
    the connection is closed then, and ``session`` has seen nothing of it."""
    shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: SmallTls(session, context, shaken, within_s, heard), connection
    )
    try:
        await shaken
    except BaseException:
        transport.abort()
        raise
