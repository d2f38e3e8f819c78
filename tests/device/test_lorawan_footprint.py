"""What the MAC costs: nothing of an uplink's work stays on the heap. Only MicroPython can count that."""

import gc

from brim.lorawan import frames

from tests.device.lorawan_bench import Flash, joined, make, run

UPLINKS = 60


def used():
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def one_uplink(mac, flash, network, f_cnt):
    """An uplink with a repeat, an empty RX1 and a downlink with commands, and what a sleep needs."""
    run(flash, mac.send(1, b"a report of twenty seven b.", confirmed=True))
    run(flash, mac.repeat())
    assert mac.on_frame(b"\x60" + bytes(20), 0) is None
    run(flash, mac.on_frame(network.down(f_cnt, 2, b"\x01\x02\x03", b"\x06\x08\x01", frames.ACK), 5))
    mac.advance(900000)


def test_an_uplink_leaves_nothing_behind():
    flash = Flash()
    mac, network = joined(flash)
    least = [0] * (UPLINKS // 10)
    for tens in range(UPLINKS // 10):
        # The collector may take an old word on the stack for a pointer, now and then: the least of ten is exact.
        least[tens] = 1 << 30
        for f_cnt in range(10 * tens, 10 * tens + 10):
            one_uplink(mac, flash, network, f_cnt)
            least[tens] = min(least[tens], used())
    # The first ten settle what is made once.
    assert max(least[2:]) <= least[1]


def test_a_state_of_at_most_300_bytes_is_all_that_a_sleep_keeps():
    flash = Flash()
    mac, network = joined(flash, cf_list=[867100000, 867300000, 867500000, 867700000, 867900000])
    for f_cnt in range(4):
        one_uplink(mac, flash, network, f_cnt)
    mac.ask_time()
    kept = mac.state()
    assert len(kept) <= 300
    again = make(flash, kept)
    assert again.state() == kept
    assert run(flash, again.send(1, b"x"))[0][4] == run(flash, mac.send(1, b"x"))[0][4]
