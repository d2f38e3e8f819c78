"""The network server: receptions in, readings and downlinks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from brim.lorawan import frames
from brim.lorawan.eu868 import MAX_PAYLOAD, sub_band
from brim.lorawan.frames import Data, FrameError

from brim_gateway.network.dedup import FORGET_US, MAX_HEARD, Slot, digest, heard_before
from brim_gateway.network.device import DeviceRow, Heard, Session
from brim_gateway.network.downlink import LEAD_US, Window, windows
from brim_gateway.network.duty import DutyLedger, still_counting
from brim_gateway.network.join import accept_request, request_problem
from brim_gateway.network.mac_answers import answers_to
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.registry import Rows
from brim_gateway.network.session import UP, find_counter

PATH_EXPIRES_US = 90_000_000
MAX_PATHS = 256
MAX_QUEUED = 16
# The smallest FRMPayload of the region: a queued payload fits any window.
MAX_QUEUED_BYTES = min(MAX_PAYLOAD)


@dataclass(frozen=True, slots=True)
class _Queued:
    f_port: int
    payload: bytes
    expires_us: int


@dataclass(slots=True)
class _InFlight:
    slot: Slot
    phy: bytes
    session: Session | None
    queued: _Queued | None
    started_us: int


class NetworkServer:
    """LoRaWAN 1.0.4, Class A, EU868, for the devices of one site. All times are UTC microseconds given by the caller.

    `trust_concentrator_clock`: the time of an event is the concentrator's, where it gives one.
    `clock_trusted`: whether the caller's times are good enough to set a device's clock by.
    What this object knows after a call is what the caller has been given in `updates`: commit them, or call
    `restore_device` with the rows as they were committed last.
    """

    def __init__(
        self,
        devices: Iterable[DeviceRow] = (),
        *,
        random_bytes: Callable[[int], bytes],
        net_id: int = 0,
        trust_concentrator_clock: bool = False,
        clock_trusted: Callable[[], bool] = lambda: True,
        lead_us: int = LEAD_US,
    ) -> None:
        self._random_bytes = random_bytes
        self._net_id = net_id
        self._trust_clock = trust_concentrator_clock
        self._clock_trusted = clock_trusted
        self._lead_us = lead_us
        self._rows = Rows()
        self._slots: dict[str, Slot] = {}
        self._by_phy: dict[bytes, Slot] = {}
        self._ages: deque[Slot] = deque()
        self._queues: dict[str, deque[_Queued]] = {}
        self._paths: dict[str, int] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._next_key = 1
        rows = list(devices)
        self.duty = DutyLedger(entry for row in rows for entry in row.sent)
        for row in rows:
            self.put_device(row)

    # The registry.

    def put_device(self, row: DeviceRow) -> None:
        """Add or replace a device."""
        self._rows.put(row)

    def restore_device(self, row: DeviceRow) -> None:
        """Updates of this device could not be committed: go back to the committed row and forget what was heard since,
        so that a datagram that is sent again counts as new."""
        self._rows.put(row)
        self._slots.pop(row.dev, None)
        self._by_phy = {phy: slot for phy, slot in self._by_phy.items() if slot.dev != row.dev}

    def remove_device(self, dev: str) -> None:
        """Forget a device with its queue; unknown ones are fine."""
        self._rows.remove(dev)
        self._queues.pop(dev, None)
        self._slots.pop(dev, None)

    def device(self, dev: str) -> DeviceRow | None:
        """The row as it stands now."""
        return self._rows.get(dev)

    # Uplinks.

    def on_pull(self, gateway: str, now_us: int) -> None:
        """A PULL_DATA came: this concentrator can be sent downlinks for the next 90 s."""
        if gateway not in self._paths and len(self._paths) >= MAX_PATHS:
            self._paths = {each: at_us for each, at_us in self._paths.items() if now_us - at_us < PATH_EXPIRES_US}
            if len(self._paths) >= MAX_PATHS:
                return
        self._paths[gateway] = now_us

    def on_uplink(self, reception: Reception, now_us: int) -> UplinkResult:
        """Verify, de-duplicate, decrypt. Never raises, whatever the bytes."""
        self._forget(now_us)
        if not 7 <= reception.sf <= 12 or reception.bw_hz != 125_000:
            return _refused("data rate", reception)
        if sub_band(reception.freq_hz) < 0:
            return _refused("frequency", reception)
        slot = self._by_phy.get(reception.phy)
        if slot is not None and slot.is_same(reception, now_us):
            slot.add(reception)
            return UplinkResult("copy", slot.dev, "copy", reception=reception, heard_us=now_us)
        try:
            m_type = frames.message_type(reception.phy)
            if m_type == frames.JOIN_REQUEST:
                return self._on_join(reception, now_us, slot)
            if m_type in (frames.DATA_UP, frames.CONFIRMED_UP):
                return self._on_data(reception, now_us, frames.parse_data(reception.phy))
        except FrameError as error:
            return _refused(str(error), reception)
        return _refused("message type", reception)

    def _heard_us(self, reception: Reception, now_us: int) -> int:
        return reception.time_us if self._trust_clock and reception.time_us is not None else now_us

    def _on_join(self, reception: Reception, now_us: int, before: Slot | None) -> UplinkResult:
        phy = reception.phy
        _, dev_eui, dev_nonce = frames.parse_join_request(phy)
        dev = dev_eui.hex()
        heard_us = self._heard_us(reception, now_us)
        row = self._rows.get(dev)
        waiting = row is not None and row.pending is not None and row.last_dev_nonce == dev_nonce
        if waiting and before is not None and before.accept is not None:
            again = self._open_slot(dev, reception, now_us)
            again.accept = before.accept
            return UplinkResult("copy", dev, "join repeated", reception=reception, answer_due=True, heard_us=heard_us)
        problem = request_problem(row, phy)
        if problem is not None or row is None:
            return _refused(problem or "unknown device", reception, dev if row else None)
        row, accept = accept_request(row, phy, self._net_id, now_us, self._random_bytes)
        self.put_device(row)
        self._open_slot(dev, reception, now_us).accept = accept
        return UplinkResult(
            "join",
            dev,
            session=row.join_nonce,
            reception=reception,
            updates=(row,),
            answer_due=True,
            heard_us=heard_us,
        )

    def _on_data(self, reception: Reception, now_us: int, frame: Data) -> UplinkResult:
        reason, of_dev = "unknown address", None
        for row, session in self._rows.sessions_at(frame.dev_addr):
            volatile = row.counter == "volatile"
            # A device that forgets its counter means just the 16 bits that it sends.
            last = session.f_cnt_up if not volatile else frame.f_cnt - 1 if frame.f_cnt else None
            f_cnt, why = find_counter(self._rows.crypto(session), last, reception.phy, frame)
            if f_cnt is None:
                # Several devices may share an address: the most telling reason wins.
                if reason in ("unknown address", "mic"):
                    reason, of_dev = why, row.dev if why != "mic" else None
            elif row.has_public_key() and not row.allow_public_key:
                return _refused("public key", reception, row.dev)
            elif volatile:
                return self._on_volatile(row, session, f_cnt, reception, now_us, frame)
            elif f_cnt == last:
                return self._on_repeat(row, session, f_cnt, reception, now_us, frame)
            else:
                return self._on_new(row, session, f_cnt, reception, now_us, frame)
        return _refused(reason, reception, of_dev)

    def _on_new(
        self, row: DeviceRow, session: Session, f_cnt: int, reception: Reception, now_us: int, frame: Data
    ) -> UplinkResult:
        payload = self._rows.crypto(session).crypt(UP, f_cnt, frame.f_port, frame.payload)
        row = self._advance(row, session, replace(session, f_cnt_up=f_cnt))
        self._open_data_slot(row.dev, reception, now_us, frame, payload)
        return self._data_result(row, session, f_cnt, reception, now_us, frame, payload)

    def _on_volatile(
        self, row: DeviceRow, session: Session, f_cnt: int, reception: Reception, now_us: int, frame: Data
    ) -> UplinkResult:
        payload = self._rows.crypto(session).crypt(UP, f_cnt, frame.f_port, frame.payload)
        heard_us = self._heard_us(reception, now_us)
        heard = Heard(digest(frame.f_port, payload), heard_us, reception.tmst_us, reception.gateway)
        if heard_before(session.heard, heard):
            return UplinkResult("copy", row.dev, "same value", reception=reception, heard_us=heard_us, volatile=True)
        row = self._advance(row, session, replace(session, heard=(*session.heard[1 - MAX_HEARD :], heard)))
        self._open_data_slot(row.dev, reception, now_us, frame, payload)
        return self._data_result(row, session, f_cnt, reception, now_us, frame, payload)

    def _on_repeat(
        self, row: DeviceRow, session: Session, f_cnt: int, reception: Reception, now_us: int, frame: Data
    ) -> UplinkResult:
        """An identical retransmission: not processed again, but acknowledged again (LoRaWAN 1.0.4, section 4.3.1.2)."""
        before = self._slots.get(row.dev)
        fresh = before is not None and before.accept is None
        if before is not None and fresh:
            if before.phy != reception.phy:
                return _refused("counter used twice", reception, row.dev)
            # Long after, it is no device that waits for an answer, and an answer would cost airtime.
            self._open_data_slot(row.dev, reception, now_us, frame, b"")
        return UplinkResult(
            "copy",
            row.dev,
            "repeat",
            session.number,
            f_cnt,
            reception=reception,
            answer_due=fresh,
            confirmed=frame.m_type == frames.CONFIRMED_UP,
            heard_us=self._heard_us(reception, now_us),
        )

    def _advance(self, row: DeviceRow, old: Session, new: Session) -> DeviceRow:
        if row.pending is old:
            # The first valid frame proves that the device has the new keys: now the old session ends.
            row = replace(row, session=new, pending=None)
            self.put_device(row)
        else:
            row = replace(row, session=new)
            self._rows.change(row)
        return row

    def _data_result(
        self,
        row: DeviceRow,
        session: Session,
        f_cnt: int,
        reception: Reception,
        now_us: int,
        frame: Data,
        payload: bytes,
    ) -> UplinkResult:
        return UplinkResult(
            "data",
            row.dev,
            None,
            session.number,
            f_cnt,
            frame.f_port,
            payload if frame.f_port else b"",
            reception,
            (row,),
            volatile=row.counter == "volatile",
            confirmed=frame.m_type == frames.CONFIRMED_UP,
            answer_due=True,
            heard_us=self._heard_us(reception, now_us),
        )

    def _open_slot(self, dev: str, reception: Reception, now_us: int) -> Slot:
        slot = Slot(dev, reception.phy, now_us, [reception], 12 - reception.sf)
        self._slots[dev] = slot
        self._by_phy[reception.phy] = slot
        self._ages.append(slot)
        return slot

    def _open_data_slot(self, dev: str, reception: Reception, now_us: int, frame: Data, payload: bytes) -> None:
        slot = self._open_slot(dev, reception, now_us)
        slot.confirmed = frame.m_type == frames.CONFIRMED_UP
        slot.reply_due = slot.confirmed or bool(frame.f_ctrl & frames.ADR_ACK_REQ)
        commands = payload if frame.f_port == 0 else frame.f_opts
        if commands:
            known_us = self._heard_us(reception, now_us) if self._clock_trusted() else None
            slot.mac_answers = answers_to(commands, reception, known_us)

    def _forget(self, now_us: int) -> None:
        while self._ages and not 0 <= now_us - self._ages[0].heard_us < FORGET_US:
            old = self._ages.popleft()
            if self._by_phy.get(old.phy) is old:
                del self._by_phy[old.phy]
            if self._slots.get(old.dev) is old:
                del self._slots[old.dev]
        for key in [key for key, flight in self._in_flight.items() if now_us - flight.started_us > FORGET_US]:
            del self._in_flight[key]

    # Downlinks.

    def queue(self, dev: str, f_port: int, payload: bytes, now_us: int, expires_us: int) -> bool:
        """Keep a payload for the next uplink of `dev`. False: unknown device, wrong port or length, or too many."""
        if self._rows.get(dev) is None or not 1 <= f_port <= 223 or not 0 < len(payload) <= MAX_QUEUED_BYTES:
            return False
        queue = self._queues.setdefault(dev, deque())
        self._drop_expired(queue, now_us)
        if len(queue) >= MAX_QUEUED:
            return False
        queue.append(_Queued(f_port, payload, expires_us))
        return True

    def queued(self, dev: str) -> int:
        """How many payloads wait for the next uplink of `dev`."""
        return len(self._queues.get(dev, ()))

    @staticmethod
    def _drop_expired(queue: deque[_Queued], now_us: int) -> None:
        for entry in [entry for entry in queue if entry.expires_us <= now_us]:
            queue.remove(entry)

    def answer(self, dev: str, now_us: int) -> Downlink | None:
        """What is due to `dev` after its last uplink, or None. Call it once the copy window (200 ms) is over."""
        slot, row = self._slots.get(dev), self._rows.get(dev)
        if slot is None or row is None or slot.answered:
            return None
        if slot.accept is not None:
            return self._start(_InFlight(slot, slot.accept, None, None, now_us), row, now_us)
        session = row.session
        queue = self._queues.get(dev) or deque()
        self._drop_expired(queue, now_us)
        if session is None or not (queue or slot.reply_due or slot.mac_answers):
            return None
        if session.f_cnt_down > frames.MAX_F_CNT or not self._reachable(slot, now_us):
            return None
        queued = queue[0] if queue else None
        room = MAX_QUEUED_BYTES - (len(queued.payload) if queued else 0)
        f_opts = slot.mac_answers if len(slot.mac_answers) <= min(room, 15) else b""
        f_ctrl = (frames.ACK if slot.confirmed else 0) | (frames.F_PENDING if len(queue) > 1 else 0)
        f_port, payload = (queued.f_port, queued.payload) if queued else (None, b"")
        phy = self._rows.crypto(session).build_down(
            frames.DATA_DOWN, f_ctrl, session.f_cnt_down, f_opts, f_port, payload
        )
        taken = replace(row, session=replace(session, f_cnt_down=session.f_cnt_down + 1))
        downlink = self._start(_InFlight(slot, phy, session, queued, now_us), taken, now_us)
        if downlink is not None and queued is not None:
            queue.popleft()
        return downlink

    def _reachable(self, slot: Slot, now_us: int) -> bool:
        return any(now_us - self._paths.get(r.gateway, -PATH_EXPIRES_US) < PATH_EXPIRES_US for r in slot.receptions)

    def _start(self, flight: _InFlight, row: DeviceRow, now_us: int) -> Downlink | None:
        """Choose concentrator and window; on success the row (counter, airtime) is the device's new one."""
        slot = flight.slot
        for reception in sorted(slot.receptions, key=lambda r: (r.snr_db, r.rssi_dbm), reverse=True):
            if now_us - self._paths.get(reception.gateway, -PATH_EXPIRES_US) >= PATH_EXPIRES_US:
                continue
            for window in windows(slot, flight.session, reception):
                airtime = window.airtime_us(len(flight.phy))
                if (
                    (window.gateway, window.number) not in slot.tried
                    and window.starts_us - now_us >= self._lead_us
                    and self.duty.fits(window.gateway, window.freq_hz, airtime, now_us)
                ):
                    return self._commit_to(flight, row, window, airtime, now_us)
        return None

    def _commit_to(self, flight: _InFlight, row: DeviceRow, window: Window, airtime: int, now_us: int) -> Downlink:
        flight.slot.answered = True
        flight.slot.tried.add((window.gateway, window.number))
        sent = self.duty.spend(window.gateway, window.freq_hz, airtime, window.starts_us + airtime)
        row = replace(row, sent=still_counting((*row.sent, sent), now_us))
        self._rows.change(row)
        key = self._next_key
        self._next_key += 1
        self._in_flight[key] = flight
        return Downlink(row.dev, window.gateway, window.txpk(flight.phy), (row,), key, window.number, airtime)

    def on_tx_ack(self, downlink: Downlink, error: str | None, now_us: int) -> Downlink | None:
        """The forwarder's verdict (None or "NONE" is good). A refused frame is given again, unchanged, for the next
        window or concentrator; where none is left, a queued payload goes back into its queue."""
        flight = self._in_flight.pop(downlink.key, None)
        row = self._rows.get(downlink.dev)
        if flight is None or row is None or error in (None, "NONE"):
            return None
        again = self._start(flight, row, now_us)
        if again is None and flight.queued is not None:
            self._queues.setdefault(downlink.dev, deque()).appendleft(flight.queued)
        return again


def _refused(reason: str, reception: Reception, dev: str | None = None) -> UplinkResult:
    return UplinkResult("refused", dev, reason, reception=reception)
