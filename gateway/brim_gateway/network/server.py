"""The network server: receptions in, readings and downlinks out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from brim.lorawan import frames
from brim.lorawan.eu868 import sub_band
from brim.lorawan.frames import Data, FrameError

from brim_gateway.network.answering import JOIN_PERCENT, Answering
from brim_gateway.network.dedup import (
    FORGET_US,
    MAX_ACCEPTS,
    MAX_ANSWERS,
    MAX_HEARD,
    VOLATILE_REPEATS_US,
    Slot,
    digest,
    heard_before,
    slot_for,
)
from brim_gateway.network.device import DeviceRow, Heard, Sent, Session, Status, changed, with_used_counters
from brim_gateway.network.downlink import LEAD_US
from brim_gateway.network.join import ACCEPT_BYTES, accept_request, request_problem
from brim_gateway.network.links import Links, describe
from brim_gateway.network.mac_answers import questions
from brim_gateway.network.mac_requests import read_answers
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.registry import Rows
from brim_gateway.network.session import UP, find_counter
from brim_gateway.network.slots import Slots
from brim_gateway.network.transmitters import Transmitters


class NetworkServer:
    """LoRaWAN 1.0.4, Class A, EU868, for the devices of one site. All times are UTC microseconds given by the caller.

    `trust_concentrator_clock`: the time of an event is the concentrator's, where it gives one. `sent_before`: airtime
    of devices that are no longer here. `clock_trusted`: whether the caller's times are good enough to set a device's
    clock by.
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
        sent_before: Iterable[Sent] = (),
    ) -> None:
        self._random_bytes = random_bytes
        self._net_id = net_id
        self._trust_clock = trust_concentrator_clock
        self._clock_trusted = clock_trusted
        self._rows = Rows()
        self._slots = Slots()
        self._links = Links()
        rows = list(devices)
        self._transmitters = Transmitters([*sent_before, *(entry for row in rows for entry in row.sent)], lead_us)
        self._answering = Answering(self._rows, self._slots, self._links, self._transmitters)
        self.duty = self._transmitters.duty
        for row in rows:
            self.put_device(row)

    # The registry.

    def put_device(self, row: DeviceRow) -> None:
        """Add or replace a device."""
        self._rows.put(row)

    def restore_device(self, row: DeviceRow) -> None:
        """Updates of this device could not be committed: go back to the committed row and forget what was heard since,
        so that a datagram that is sent again counts as new. What may be on its way down is not taken back: its counters
        stay used."""
        now = self._rows.get(row.dev)
        self._rows.put(row if now is None else with_used_counters(row, now))
        self._slots.drop(row.dev)
        self._transmitters.forget_device(row.dev)

    def remove_device(self, dev: str) -> None:
        """Forget a device with its queue; unknown ones are fine."""
        self._rows.remove(dev)
        self._answering.forget_device(dev)
        self._links.forget(dev)
        self._slots.drop(dev)
        self._transmitters.forget_device(dev)

    def device(self, dev: str) -> DeviceRow | None:
        """The row as it stands now."""
        return self._rows.get(dev)

    def link(self, dev: str) -> dict[str, Any]:
        """How the radio link of a device stands (`links.describe`); empty for an unknown device."""
        row = self._rows.get(dev)
        return {} if row is None else describe(row, self._links.get(dev))

    def clock_stepped(self, by_us: int) -> None:
        """The caller's clock was set: all that was noted by it moves along. Otherwise an hour of airtime would be
        forgotten, or would last for years."""
        self._transmitters.clock_stepped(by_us)
        self._slots.clock_stepped(by_us)

    # Uplinks.

    def on_pull(self, gateway: str, now_us: int) -> None:
        """A PULL_DATA came: this concentrator can be sent downlinks for the next 90 s."""
        self._transmitters.on_pull(gateway, now_us)

    def on_path_lost(self, gateway: str) -> None:
        """This concentrator can be sent nothing until its next PULL_DATA."""
        self._transmitters.on_path_lost(gateway)

    def on_uplink(self, reception: Reception, now_us: int) -> UplinkResult:
        """Verify, de-duplicate, decrypt. Never raises, whatever the bytes."""
        self._forget(now_us)
        if not 7 <= reception.sf <= 12 or reception.bw_hz != 125_000:
            return _refused("data rate", reception)
        if sub_band(reception.freq_hz) < 0:
            return _refused("frequency", reception)
        slot = self._slots.with_phy(reception.phy)
        if slot is not None and slot.is_same(reception, now_us):
            self._on_copy(slot, reception, now_us)
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

    def _forget(self, now_us: int) -> None:
        self._slots.forget(now_us)
        self._answering.forget(now_us)
        self._transmitters.forget(now_us)

    def _on_copy(self, slot: Slot, reception: Reception, now_us: int) -> None:
        slot.add(reception)
        link = self._links.get(slot.dev)
        if link is not None and slot.accept is None:
            link.copied(reception, now_us)

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
            if before.answers >= MAX_ACCEPTS:
                return _refused("join repeated", reception, dev)
            again = self._slots.add(slot_for(dev, reception, now_us))
            again.accept, again.answers = before.accept, before.answers
            return UplinkResult("copy", dev, "join repeated", reception=reception, answer_due=True, heard_us=heard_us)
        problem = request_problem(row, phy)
        if problem is not None or row is None:
            return _refused(problem or "unknown device", reception, dev if row else None)
        slot = slot_for(dev, reception, now_us)
        if not self._transmitters.pledge(slot, ACCEPT_BYTES, now_us, JOIN_PERCENT):
            # Nothing has changed: the device tries again, and no nonce was spent on an accept that nobody sends.
            return _refused("no airtime", reception, dev)
        row, slot.accept = accept_request(row, phy, self._net_id, now_us, self._random_bytes)
        self.put_device(row)
        self._slots.add(slot)
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
            elif self._rows.has_public_key(row.dev) and not row.allow_public_key:
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
        commands = payload if frame.f_port == 0 else frame.f_opts
        link = self._links.of(row.dev, session.number, now_us)
        new, status = changed(session, f_cnt_up=f_cnt), None
        if commands or session.agreed.asked:
            new, status = read_answers(new, link, commands, now_us)
        link.heard(f_cnt, session.f_cnt_up, frame.f_ctrl, reception, now_us)
        row = self._advance(row, session, new, status)
        self._open(row.dev, reception, now_us, frame, commands).f_cnt = f_cnt
        return self._data_result(row, session, f_cnt, reception, now_us, frame, payload)

    def _on_volatile(
        self, row: DeviceRow, session: Session, f_cnt: int, reception: Reception, now_us: int, frame: Data
    ) -> UplinkResult:
        payload = self._rows.crypto(session).crypt(UP, f_cnt, frame.f_port, frame.payload)
        before = self._slots.of(row.dev, now_us)
        if (
            before is not None
            and before.confirmed
            and (before.phy, before.f_cnt) == (reception.phy, f_cnt)
            and now_us - before.heard_us < VOLATILE_REPEATS_US
        ):
            # Its acknowledgement was lost: to be acknowledged again, and no second reading.
            return self._on_repeat(row, session, f_cnt, reception, now_us, frame)
        heard_us = self._heard_us(reception, now_us)
        heard = Heard(digest(frame.f_port, payload), heard_us, reception.tmst_us, reception.gateway)
        if heard_before(session.heard, heard):
            return UplinkResult("copy", row.dev, "same value", reception=reception, heard_us=heard_us, volatile=True)
        row = self._advance(row, session, changed(session, heard=(*session.heard[1 - MAX_HEARD :], heard)), None)
        self._links.of(row.dev, session.number, now_us).by(reception, now_us)
        commands = payload if frame.f_port == 0 else frame.f_opts
        self._open(row.dev, reception, now_us, frame, commands).f_cnt = f_cnt
        return self._data_result(row, session, f_cnt, reception, now_us, frame, payload)

    def _on_repeat(
        self, row: DeviceRow, session: Session, f_cnt: int, reception: Reception, now_us: int, frame: Data
    ) -> UplinkResult:
        """An identical retransmission: not processed again, but acknowledged again (LoRaWAN 1.0.4, section 4.3.1.2)."""
        before = self._slots.of(row.dev, now_us)
        fresh, confirmed = False, frame.m_type == frames.CONFIRMED_UP
        # An answer costs airtime, and these bytes may be a recording: so many, and no more.
        answers = MAX_ANSWERS - 1
        if before is not None and before.accept is None:
            if before.phy != reception.phy:
                return _refused("counter used twice", reception, row.dev)
            # Long after, only an alarm may still wait for its answer.
            fresh = before.answers < MAX_ANSWERS and (confirmed or now_us - before.heard_us < FORGET_US)
            answers = before.answers
            if fresh:
                self._on_copy(before, reception, now_us)
        elif before is None and confirmed:
            # It came before a restart of ours: the device may never have heard that we have it.
            fresh = True
        if fresh:
            commands = frame.f_opts
            if frame.f_port == 0:
                commands = self._rows.crypto(session).crypt(UP, f_cnt, 0, frame.payload)
            slot = self._open(row.dev, reception, now_us, frame, commands)
            slot.f_cnt, slot.repeat, slot.answers = f_cnt, True, answers
        return UplinkResult(
            "copy",
            row.dev,
            "repeat",
            session.number,
            f_cnt,
            reception=reception,
            answer_due=fresh,
            confirmed=confirmed,
            heard_us=self._heard_us(reception, now_us),
        )

    def _advance(self, row: DeviceRow, old: Session, new: Session, status: Status | None) -> DeviceRow:
        if row.pending is old:
            # The first valid frame proves that the device has the new keys: now the old session ends.
            row = changed(row, session=new, pending=None, status=status or row.status)
            self.put_device(row)
        else:
            row = changed(row, session=new, status=status or row.status)
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

    def _open(self, dev: str, reception: Reception, now_us: int, frame: Data, commands: bytes) -> Slot:
        slot = self._slots.add(slot_for(dev, reception, now_us))
        slot.confirmed = frame.m_type == frames.CONFIRMED_UP
        slot.reply_due = slot.confirmed or bool(frame.f_ctrl & frames.ADR_ACK_REQ)
        if commands:
            slot.asks = questions(commands, self._clock_trusted())
            slot.known_us = self._heard_us(reception, now_us)
        return slot

    # Downlinks.

    def queue(self, dev: str, f_port: int, payload: bytes, now_us: int, expires_us: int, *, priority: int = 0) -> bool:
        """Keep a payload for the next uplink of `dev`; the highest `priority` goes first. False: unknown device, wrong
        port or length, or too many."""
        return self._answering.queue(dev, f_port, payload, now_us, expires_us, priority)

    def queued(self, dev: str) -> int:
        """How many payloads wait for the next uplink of `dev`."""
        return self._answering.queued(dev)

    def answer(self, dev: str, now_us: int) -> Downlink | None:
        """What is due to `dev` after its last uplink, or None. Call it once the copy window (200 ms) is over."""
        return self._answering.answer(dev, now_us)

    def on_tx_ack(self, downlink: Downlink, error: str | None, now_us: int) -> Downlink | None:
        """The forwarder's verdict (None or "NONE" is good). A refused frame is given again, unchanged, for the next
        window or concentrator; where none is left, a queued payload goes back into its queue."""
        return self._answering.on_tx_ack(downlink, error, now_us)


def _refused(reason: str, reception: Reception, dev: str | None = None) -> UplinkResult:
    return UplinkResult("refused", dev, reason, reception=reception)
