"""The device rows in memory: by EUI, and by the address on the air."""

from __future__ import annotations

from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.network.session import SessionCrypto


class Rows:
    """All rows of a site. Several devices may share an address: the MIC decides between them."""

    def __init__(self) -> None:
        self._rows: dict[str, DeviceRow] = {}
        self._public: set[str] = set()
        self._by_addr: dict[bytes, set[str]] = {}
        self._crypto: dict[tuple[bytes, bytes, str], SessionCrypto] = {}

    def get(self, dev: str) -> DeviceRow | None:
        """The row of `dev`."""
        return self._rows.get(dev)

    def put(self, row: DeviceRow) -> None:
        """Add or replace a row."""
        self.remove(row.dev)
        self._rows[row.dev] = row
        if row.has_public_key():
            self._public.add(row.dev)
        for session in _sessions(row):
            self._by_addr.setdefault(_on_air(session), set()).add(row.dev)

    def change(self, row: DeviceRow) -> None:
        """Replace a row whose addresses and keys are what they were."""
        self._rows[row.dev] = row

    def remove(self, dev: str) -> None:
        """Forget a row; unknown ones are fine."""
        row = self._rows.pop(dev, None)
        self._public.discard(dev)
        for session in _sessions(row) if row is not None else ():
            self._crypto.pop(_keys(session), None)
            owners = self._by_addr.get(_on_air(session))
            if owners is not None:
                owners.discard(dev)
                if not owners:
                    del self._by_addr[_on_air(session)]

    def sessions_at(self, dev_addr: bytes) -> list[tuple[DeviceRow, Session]]:
        """Every session with this address (as on the air), a pending one before the one it replaces."""
        owners = self._by_addr.get(dev_addr, ())
        address = dev_addr[::-1].hex()
        return [
            (row, session)
            for row in (self._rows[dev] for dev in (sorted(owners) if len(owners) > 1 else owners))
            for session in (row.pending, row.session)
            if session is not None and session.dev_addr == address
        ]

    def has_public_key(self, dev: str) -> bool:
        """DeviceRow.has_public_key, looked at when the row came in."""
        return dev in self._public

    def crypto(self, session: Session) -> SessionCrypto:
        """The keys of a session, made ready once."""
        key = _keys(session)
        crypto = self._crypto.get(key)
        if crypto is None:
            crypto = self._crypto[key] = SessionCrypto(session)
        return crypto


def _sessions(row: DeviceRow) -> tuple[Session, ...]:
    return tuple(session for session in (row.pending, row.session) if session is not None)


def _on_air(session: Session) -> bytes:
    return bytes.fromhex(session.dev_addr)[::-1]


def _keys(session: Session) -> tuple[bytes, bytes, str]:
    return session.nwk_s_key, session.app_s_key, session.dev_addr
