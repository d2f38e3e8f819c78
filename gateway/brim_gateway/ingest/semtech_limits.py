"""How much one concentrator may send: a token bucket for each source. Pure; the caller gives the time."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SOURCES = 1_024
IDLE_S = 60.0
"""A source that was silent for so long makes room for another."""
BURST_S = 2.0
"""A forwarder that was held up sends so much at once."""
HOST_SHARE = 16
_LATE = ("", "")
_ALL = "all"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen_s: float
    said: bool = False


class RateLimit:
    """``rate`` datagrams a second for each (host, EUI), with two seconds' worth saved up; 0: no limit.

    A host may send for HOST_SHARE concentrators, whatever EUIs it names.

    The port is no part of the key: whoever floods has 65,535 of them. Once MAX_SOURCES are busy, all further ones share
    one bucket, so neither memory nor the sum of what is let in can grow.
    """

    def __init__(self, rate: int) -> None:
        self._rate = float(rate)
        self._most = rate * BURST_S
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def allows(self, host: str, gateway: str, now_s: float) -> bool:
        """Whether this datagram is let in; counts it if so."""
        if not self._rate:
            return True
        one = self._buckets.get((host, gateway)) or self._new(host, gateway, now_s)
        whole = self._buckets.get((host, _ALL)) or self._new(host, _ALL, now_s)
        return self._take(one, now_s, 1.0) and self._take(whole, now_s, 1.0 / HOST_SHARE)

    def _take(self, bucket: _Bucket, now_s: float, cost: float) -> bool:
        tokens = min(self._most, bucket.tokens + (now_s - bucket.seen_s) * self._rate)
        bucket.seen_s = now_s
        if tokens < cost:
            bucket.tokens = tokens
            return False
        bucket.tokens = tokens - cost
        if bucket.said and tokens == self._most:
            bucket.said = False
        return True

    def first_refusal(self, host: str, gateway: str) -> bool:
        """True once from the first refusal until the source has been quiet enough to save up everything again."""
        bucket = self._buckets.get((host, gateway)) or self._buckets.get(_LATE)
        if bucket is None or bucket.said:
            return False
        bucket.said = True
        return True

    def __len__(self) -> int:
        return len(self._buckets)

    def _new(self, host: str, gateway: str, now_s: float) -> _Bucket:
        if len(self._buckets) >= MAX_SOURCES:
            self._buckets = {key: one for key, one in self._buckets.items() if now_s - one.seen_s < IDLE_S}
        key = (host, gateway)
        if len(self._buckets) >= MAX_SOURCES:
            if _LATE in self._buckets:
                return self._buckets[_LATE]
            key = _LATE
        bucket = self._buckets[key] = _Bucket(self._most, now_s)
        return bucket
