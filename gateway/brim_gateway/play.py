"""Plays recorded LoRaWAN receptions into a gateway, as a packet forwarder would send them.

The file is CSV with a head; the columns `time_utc`, `gateway_eui`, `frequency_mhz`, `datarate`, `rssi_dbm`, `snr_db`
and `phy_payload_hex` are read. Rows without a frame are left out and counted.
"""

from __future__ import annotations

import base64
import csv
import json
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brim_gateway.ingest.semtech_codec import PUSH_ACK, PUSH_DATA

COLUMNS = ("time_utc", "gateway_eui", "frequency_mhz", "datarate", "rssi_dbm", "snr_db", "phy_payload_hex")
MAX_FILE_BYTES = 64 << 20
MAX_ROWS = 500_000
# How far the newest frame may be ahead of the oldest without an answer. The gateway knows a frame again that is sent
# twice across its own restart, as long as fewer than 64 of the same device lie between.
WINDOW = 32
RESEND_S = 1.0
GIVE_UP_S = 60.0

_EUI = re.compile(r"[0-9A-Fa-f]{16}\Z")
_DATR = re.compile(r"SF([5-9]|1[0-2])BW(125|250|500)\Z")
_HEX = re.compile(r"([0-9A-Fa-f]{2}){1,255}\Z")
_NUMBER = re.compile(r"-?\d{1,5}(\.\d{1,6})?\Z")


class RecordingInvalid(ValueError):
    """The recording cannot be played; the text is one line that says where and why."""


class NoAnswer(OSError):
    """The gateway did not acknowledge in time; the text says how far it came."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One recorded reception; `rxpk` is ready for PUSH_DATA."""

    gateway: bytes
    rxpk: dict[str, Any]


@dataclass(slots=True)
class Account:
    """What was played. `acknowledged` equals `sent` when the call returns; `resent` datagrams were sent again."""

    rows: int = 0
    without_frame: int = 0
    sent: int = 0
    acknowledged: int = 0
    resent: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, int | float]:
        """JSON-ready."""
        return asdict(self)


def _number(text: str, name: str, low: float, high: float) -> float:
    if not _NUMBER.match(text) or not low <= float(text) <= high:
        raise ValueError(f"{name} is no number from {low:g} to {high:g}")
    return float(text)


def parse_row(row: dict[str, str]) -> Frame:
    """One row with a frame; raises ValueError with the reason.

    `tmst` is the recorded time in microseconds modulo 2^32, as a concentrator's counter would run.
    """
    try:
        moment = datetime.fromisoformat(row["time_utc"])
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("time_utc is no ISO 8601 time") from None
    if moment.year < 1970:
        raise ValueError("time_utc is before 1970")
    if not _EUI.match(row["gateway_eui"]):
        raise ValueError("gateway_eui is not 16 hexadecimal digits")
    if not _DATR.match(row["datarate"]):
        raise ValueError("datarate is not like SF7BW125")
    if not _HEX.match(row["phy_payload_hex"]):
        raise ValueError("phy_payload_hex is not 1 to 255 bytes of hexadecimal digits")
    phy = bytes.fromhex(row["phy_payload_hex"])
    time_us = int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
    rxpk: dict[str, Any] = {
        "time": moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "tmst": time_us & 0xFFFFFFFF,
        "freq": _number(row["frequency_mhz"], "frequency_mhz", 100, 1000),
        "stat": 1,
        "modu": "LORA",
        "datr": row["datarate"],
        "codr": "4/5",
        "rssi": _number(row["rssi_dbm"], "rssi_dbm", -200, 50),
        "size": len(phy),
        "data": base64.b64encode(phy).decode("ascii"),
    }
    if row["snr_db"]:
        rxpk["lsnr"] = _number(row["snr_db"], "snr_db", -50, 50)
    return Frame(bytes.fromhex(row["gateway_eui"]), rxpk)


def read_recording(file: Path) -> tuple[list[Frame], Account]:
    """All frames of a recording in the file's order; raises RecordingInvalid, which names the line."""
    account = Account()
    frames: list[Frame] = []
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise RecordingInvalid(f"{file}: larger than {MAX_FILE_BYTES >> 20} MiB")
        with file.open(encoding="utf-8", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise RecordingInvalid(f"{file}: line 1: no column {', '.join(missing)}")
            for row in reader:
                account.rows += 1
                if account.rows > MAX_ROWS:
                    raise RecordingInvalid(f"{file}: more than {MAX_ROWS} rows")
                # A short row has None for what is missing, a long one a list under None.
                if None in row or None in row.values():
                    raise RecordingInvalid(f"{file}: line {reader.line_num}: not as many fields as the head")
                if not row["phy_payload_hex"]:
                    account.without_frame += 1
                    continue
                try:
                    frames.append(parse_row(row))
                except ValueError as error:
                    raise RecordingInvalid(f"{file}: line {reader.line_num}: {error}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 CSV text"
        raise RecordingInvalid(f"{file}: {reason}") from None
    if not frames:
        raise RecordingInvalid(f"{file}: no row has a frame")
    return frames, account


def play(
    file: Path | str,
    host: str,
    port: int,
    *,
    window: int = WINDOW,
    resend_s: float = RESEND_S,
    give_up_s: float = GIVE_UP_S,
    progress: Callable[[int, int], None] | None = None,
) -> Account:
    """Send a recording to the gateway at `host`:`port` as fast as it acknowledges, one reception a datagram.

    A datagram without answer is sent again each `resend_s`. `progress(acknowledged, all)` is called after each answer.
    Raises RecordingInvalid, NoAnswer after `give_up_s` without any answer, or OSError where the address is wrong.
    """
    frames, account = read_recording(Path(file))
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    started_s = last_answer_s = time.monotonic()
    # By token, oldest first: number, datagram, when it was sent last.
    waiting: dict[bytes, tuple[int, bytes, float]] = {}
    with socket.socket(family, kind, proto) as opened:
        opened.setblocking(False)
        opened.connect(address)
        while account.acknowledged < len(frames):
            now_s = time.monotonic()
            oldest = next(iter(waiting.values()))[0] if waiting else account.sent
            while account.sent < len(frames) and account.sent - oldest < window:
                token = (account.sent & 0xFFFF).to_bytes(2, "big")
                datagram = push_data(token, frames[account.sent])
                waiting[token] = (account.sent, datagram, now_s)
                _send(opened, datagram)
                account.sent += 1
            for token, (number, datagram, sent_s) in waiting.items():
                if now_s - sent_s >= resend_s:
                    waiting[token] = (number, datagram, now_s)
                    _send(opened, datagram)
                    account.resent += 1
            select.select([opened], [], [], resend_s / 4)
            for token in _answers(opened):
                if waiting.pop(token, None) is not None:
                    account.acknowledged += 1
                    last_answer_s = time.monotonic()
                    if progress is not None:
                        progress(account.acknowledged, len(frames))
            if time.monotonic() - last_answer_s > give_up_s:
                raise NoAnswer(
                    f"{host}:{port} did not answer for {give_up_s:g} s: {account.acknowledged} of {len(frames)} "
                    "acknowledged; is the gateway running there?"
                )
    account.seconds = round(time.monotonic() - started_s, 3)
    return account


def push_data(token: bytes, frame: Frame) -> bytes:
    """The datagram of one recorded reception."""
    body = json.dumps({"rxpk": [frame.rxpk]}, separators=(",", ":")).encode("ascii")
    return b"\x02" + token + bytes((PUSH_DATA,)) + frame.gateway + body


def _send(opened: socket.socket, datagram: bytes) -> None:
    # Nobody listening yet, or a full buffer: it is sent again when its answer does not come.
    try:
        opened.send(datagram)
    except OSError:
        return


def _answers(opened: socket.socket) -> list[bytes]:
    tokens: list[bytes] = []
    while True:
        try:
            datagram = opened.recv(64)
        except OSError:
            return tokens
        if len(datagram) == 4 and datagram[0] == 2 and datagram[3] == PUSH_ACK:
            tokens.append(datagram[1:3])
