"""A store that is slow, full or refusing costs a bin time, never a reading and never an acknowledgement too early."""

from __future__ import annotations

import time
import tracemalloc

from brim_gateway.errors import StoreFault
from brim_gateway.ingest import mqtt_session
from brim_gateway.mqtt import server_codec as mqtt

from tests.gateway.listening import Listening, RawBin, wait_held
from tests.gateway.support import wait_until

PING, PONG = b"\xc0\x00", b"\xd0\x00"
MOST = mqtt_session.PENDING_MOST


def test_nothing_is_acknowledged_before_the_commit_and_one_commit_is_one_transaction_a_read() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        bin_.publish(1, 10)
        wait_held(listening, 10)
        assert bin_.is_quiet()
        assert listening.call(lambda: len(listening.store.waiting)) == 1
        listening.call(listening.store.commit)
        bin_.hear_pubacks(1, 10)


def test_sixty_four_wait_at_the_store_and_the_rest_follow_in_order() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        for number in range(300):
            bin_.publish(1 + number, 1, b'{"n":%d}' % number)
        while len(listening.store.committed) < 300:
            wait_held(listening, min(MOST, 300 - len(listening.store.committed)))
            before = len(listening.store.committed)
            listening.call(listening.store.commit)
            bin_.hear_pubacks(1 + before, len(listening.store.committed) - before)
        assert listening.store.committed == [b'{"n":%d}' % number for number in range(300)]


def test_pings_are_answered_while_the_disk_is_full() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        bin_.publish(1, MOST + 20)
        wait_held(listening, MOST)
        for _ in range(3):
            bin_.say(PING)
            assert bin_.hear(2) == PONG
        listening.call(listening.store.commit)
        bin_.hear_pubacks(1, MOST)
        wait_held(listening, 20)
        listening.call(listening.store.commit)
        bin_.hear_pubacks(MOST + 1, 20)


def fill(bin_: RawBin) -> int:
    """Publish until nothing more goes in; the number of bytes that went."""
    bin_.sock.settimeout(0.5)
    sent, packet = 0, mqtt.publish(4, f"brim/bin/{bin_.dev}/up", b"x" * 10_000, 1, 1)
    try:
        while sent < 64_000_000:
            sent += bin_.sock.send(packet[sent % len(packet) :])
    except TimeoutError:
        pass
    bin_.sock.settimeout(5)
    return sent


def test_a_bin_that_is_not_read_is_not_called_silent() -> None:
    with Listening() as listening, RawBin(listening.port, keep_alive_s=1) as bin_:
        fill(bin_)
        (session,) = listening.listener.sessions.values()
        assert session.is_paused
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2.5, "more than one and a half keep-alives")
        assert listening.listener.counters["silent"] == 0
        listening.call(listening.store.commit)
        bin_.hear_pubacks(1, 1)


def test_what_one_bin_can_make_the_listener_hold_is_bounded() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        tracemalloc.start()
        try:
            assert fill(bin_) < 20_000_000, "the sender was not held back"
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert listening.store.held() == MOST
        assert held < MOST * 10_100 + mqtt_session.HELD_MOST_BYTES + 100_000


def test_a_client_that_goes_while_the_store_waits_breaks_nothing() -> None:
    with Listening() as listening:
        with RawBin(listening.port) as bin_:
            bin_.publish(1, MOST + 5)
            wait_held(listening, MOST)
        with RawBin(listening.port) as again:
            again.publish(1, 3)
            wait_held(listening, MOST + 3)
            listening.call(listening.store.commit)
            again.hear_pubacks(1, 3)


def test_what_will_never_be_stored_ends_the_connection_without_an_acknowledgement() -> None:
    with Listening() as listening:
        with RawBin(listening.port) as bin_, RawBin(listening.port, "02000000000000bb") as other:
            bin_.publish(1, 5)
            wait_held(listening, 5)
            bin_.publish(6, 100)
            wait_held(listening, MOST)
            listening.call(lambda: listening.store.fail(StoreFault("the store is closing")))
            assert bin_.hear(1) == b""
            other.publish(1, 1)
            wait_held(listening, 1)
            listening.call(listening.store.commit)
            other.hear_pubacks(1, 1)
        assert listening.listener.counters["not_stored"] == 1


def test_commits_out_of_order_are_acknowledged_in_order() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        for number in range(3):
            bin_.publish(1 + number, 1)
            wait_held(listening, number + 1)
        futures = [future for _, _, future in listening.store.waiting]
        listening.call(lambda: futures[2].set_result(None))
        listening.call(lambda: futures[1].set_result(None))
        bin_.say(PING)
        assert bin_.hear(2) == PONG, "nothing before the first is on disk"
        listening.call(lambda: futures[0].set_result(None))
        bin_.hear_pubacks(1, 3)


def test_publishes_then_goodbye_in_one_breath_are_all_taken() -> None:
    with Listening() as listening, RawBin(listening.port) as bin_:
        topic = f"brim/bin/{bin_.dev}/up"
        many = b"".join(mqtt.publish(4, topic, b"%d" % n, 0, 0) for n in range(MOST + 30))
        bin_.say(many + b"\xe0\x00")
        wait_held(listening, MOST)
        listening.call(listening.store.commit)
        wait_held(listening, 30)
        listening.call(listening.store.commit)
        assert bin_.hear(1) == b""
        assert len(listening.store.committed) == MOST + 30
