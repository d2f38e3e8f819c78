"""A registered device's payload through its decoder, however badly either is made."""

from __future__ import annotations

import logging

from brim_gateway.decoders.brim import Decoded
from brim_gateway.decoders.table import DECODERS
from brim_gateway.errors import DecodeError
from brim_gateway.model import BinRecord

log = logging.getLogger("brim.decoding")


def decode(record: BinRecord | None, payload: bytes) -> Decoded:
    """What ``record``'s decoder reads in ``payload``. Raises DecodeError and nothing else: a decoder with a fault must
    not jam the bin that found it."""
    if record is None:
        raise DecodeError("the bin was removed")
    decoder = DECODERS.get(record.decoder)
    if decoder is None:
        raise DecodeError(f"no decoder {record.decoder!r}")
    try:
        return decoder(payload)
    except DecodeError:
        raise
    except Exception as exc:
        log.exception("fault in decoder %s", record.decoder)
        raise DecodeError(f"fault of the decoder: {type(exc).__name__}") from None
