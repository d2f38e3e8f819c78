"""One wake, whatever goes wrong in it."""

from brim.core.cycle import wake
from brim.core.rtc_state import load
from brim.links import Exchange
from brim.wire.command import ACK, encode_commands

from tests.device.bench import Bench, PowerCut


def ack_all(report):
    """The gateway holds everything up to the newest of this report."""
    newest = report.readings[0]
    return Exchange(True, commands=[encode_commands([(ACK, newest.epoch, newest.seq, 0)])])


def held(report):
    return Exchange(True, True)


def wakes(bench, count, step_mm=60):
    """`count` wakes, each with a change worth a reading: up and down, for a jump would be looked at again first."""
    for _ in range(count):
        bench.echoes = [812 + step_mm if bench.echoes[0] <= 812 else 812] * 5
        bench.sleep(wake(bench.boot()))


def pending(bench):
    return len(load(bench.rtc).ring) // 18


def test_the_first_wake_makes_a_reading_and_says_so():
    bench = Bench()
    # The first distance is looked at again soon.
    assert wake(bench.boot(cold=True)) == 118
    assert bench.nvs == {"epoch": 1}
    assert bench.lines == ["reading 1:1 ok 812", "sent 1 readings", "sleep 118"]
    reading = bench.link.reports[0].readings[0]
    assert (reading.epoch, reading.seq, reading.distance_mm, reading.echoes) == (1, 1, 812, 5)
    assert (reading.temperature_c, reading.battery_mv, reading.events) == (12, 3600, 0)


def test_nothing_new_is_no_reading_and_no_radio():
    bench = Bench()
    bench.sleep(wake(bench.boot(cold=True)))
    bench.lines.clear()
    bench.sleep(wake(bench.boot()))
    assert [line.split()[0] for line in bench.lines] == ["sleep"]
    assert len(bench.link.reports) == 1


def test_a_report_repeats_what_is_not_acknowledged():
    bench = Bench()
    wakes(bench, 6)
    assert [len(report.readings) for report in bench.link.reports] == [1, 2, 3, 4, 4, 4]
    assert [report.backlog for report in bench.link.reports] == [0, 1, 2, 3, 4, 5]
    ages = [reading.age_s for reading in bench.link.reports[-1].readings]
    assert ages[0] == 0 and 890 < ages[1] < 910 and 2690 < ages[3] < 2710


def test_an_acknowledgement_empties_exactly_its_part():
    bench = Bench()
    wakes(bench, 5)
    bench.link.answers = [lambda report: Exchange(True, commands=[encode_commands([(ACK, 1, 2, 0b1)])])]
    wakes(bench, 1)
    # 1, 2 and 4 are held: 3, 5 and 6 stay. The report had 3..6, so nothing is left to resend.
    assert pending(bench) == 3
    assert "held 1:4" in bench.lines
    assert len(bench.link.reports) == 6


def test_after_an_acknowledgement_the_backlog_follows_oldest_first():
    bench = Bench()
    bench.link.open_fault = "join"
    wakes(bench, 20)
    assert bench.link.reports == []
    bench.link.open_fault = None
    bench.link.answers = [lambda report: Exchange(True, commands=[encode_commands([(ACK, 1, 0, 0)])])]
    wakes(bench, 1)
    sent = [[reading.seq for reading in report.readings] for report in bench.link.reports]
    assert sent == [[21, 20, 19, 18], [4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]


def test_without_an_acknowledgement_nothing_more_is_sent():
    bench = Bench()
    wakes(bench, 12)
    assert len(bench.link.reports) == 12
    assert pending(bench) == 12


def test_resending_stops_with_the_budget():
    bench = Bench()
    bench.link.open_fault = "join"
    wakes(bench, 20)
    bench.link.open_fault = None
    bench.link.exchange_ms = 9000
    bench.link.answers = [ack_all]
    bench.link.answers = [lambda report: Exchange(True, commands=[encode_commands([(ACK, 1, 0, 0)])])]
    wakes(bench, 1)
    assert len(bench.link.reports) == 2


def test_a_failed_join_is_tried_again_at_the_next_wake_with_or_without_news():
    bench = Bench()
    bench.link.open_fault = "join"
    bench.sleep(wake(bench.boot(cold=True)))
    assert "fault join" in bench.lines and bench.link.reports == []
    bench.link.open_fault = None
    bench.sleep(wake(bench.boot()))
    assert [reading.seq for reading in bench.link.reports[0].readings] == [1]
    assert bench.link.reports[0].readings[0].age_s >= 110


def test_on_wifi_the_whole_outbox_leaves_oldest_first_and_is_held():
    bench = Bench()
    bench.link.ACKNOWLEDGES = True
    bench.link.open_fault = "wifi"
    wakes(bench, 9)
    bench.link.open_fault = None
    bench.link.exchange_ms = 50
    bench.link.then = held
    wakes(bench, 1)
    sent = [[reading.seq for reading in report.readings] for report in bench.link.reports]
    assert sent == [[4, 3, 2, 1], [8, 7, 6, 5], [10, 9]]
    assert pending(bench) == 0
    assert bench.log_of("held") == ["held 1:4", "held 1:8", "held 1:10"]


def test_on_wifi_what_was_not_confirmed_stays_and_is_tried_again():
    bench = Bench()
    bench.link.ACKNOWLEDGES = True
    bench.link.then = Exchange(True, fault="puback")
    bench.sleep(wake(bench.boot(cold=True)))
    assert pending(bench) == 1
    bench.link.then = held
    bench.sleep(wake(bench.boot()))
    assert pending(bench) == 0


def test_a_link_that_raises_is_a_fault_and_the_reading_stays():
    bench = Bench()
    bench.link.open_fault = MemoryError()
    assert wake(bench.boot(cold=True)) == 120
    assert "fault link MemoryError" in bench.lines
    assert pending(bench) == 1


def test_a_command_that_is_nonsense_changes_nothing():
    bench = Bench()
    bench.link.then = Exchange(True, commands=[b"\xff\x00"])
    wake(bench.boot(cold=True))
    assert "fault command" in bench.lines
    assert pending(bench) == 1


def test_a_dead_ranger_is_a_status_in_a_report():
    bench = Bench()
    bench.echoes = None
    wake(bench.boot(cold=True))
    assert bench.lines[:2] == ["fault ranger", "reading 1:1 sensor_fault -"]
    assert bench.link.reports[0].readings[0].distance_mm is None


def test_every_other_dead_sensor_is_an_absence():
    bench = Bench()
    bench.celsius = bench.tilted = bench.battery_mv = None
    wake(bench.boot(cold=True))
    reading = bench.link.reports[0].readings[0]
    assert (reading.status, reading.temperature_c, reading.battery_mv, reading.events) == ("ok", None, None, 0)
    assert bench.log_of("fault") == ["fault thermometer", "fault accelerometer", "fault battery"]


def test_a_power_cut_raises_the_epoch_before_the_first_reading():
    bench = Bench()
    wakes(bench, 3)
    bench.power_cut()
    bench.events.clear()
    wakes(bench, 1)
    assert bench.nvs == {"epoch": 2}
    assert bench.events[0] == "nvs"
    assert bench.log_of("reading")[-1].startswith("reading 2:1 ")


def test_without_a_committed_epoch_nothing_is_numbered():
    bench = Bench()
    bench.nvs = None
    wake(bench.boot(cold=True))
    assert bench.lines == ["fault store", "sleep 120"]
    bench.nvs = {}
    wake(bench.boot())
    assert bench.log_of("reading") == ["reading 1:1 ok 812"]


def test_the_last_seq_is_followed_by_the_next_epoch():
    bench = Bench()
    wakes(bench, 1)
    state = load(bench.rtc)
    state.seq = 65534
    bench.rtc = bytes(state.pack())
    wakes(bench, 2)
    lines = bench.log_of("reading")
    assert lines[-2].startswith("reading 1:65535 ") and lines[-1].startswith("reading 2:1 ")
    assert bench.nvs == {"epoch": 2}


def test_the_exact_link_state_is_in_rtc_memory_only_while_no_link_uses_it():
    bench = Bench()
    wakes(bench, 1)
    assert load(bench.rtc).link == b"counters"
    seen = []
    bench.link.answers = [lambda report: seen.append(load(bench.rtc)) or Exchange(True)]
    wakes(bench, 1)
    assert bench.link.opened_with[0] == b"counters"
    assert 110 < bench.link.opened_with[1] < 125
    assert seen[0].link == b"" and len(seen[0].ring) == 36


def test_a_kill_after_any_step_loses_nothing_and_numbers_nothing_twice():
    """The process dies after each change outside in turn (RTC memory stays); then two wakes without harm."""
    steps = 0
    for kill_at in range(1, 60):
        bench = Bench()
        bench.link.answers = [Exchange(True), ack_all]
        bench.kill_at = kill_at
        died = False
        for number in range(4):
            bench.echoes = [812 + 60 * (number & 1)] * 5
            try:
                bench.sleep(wake(bench.boot()))
            except PowerCut:
                died = True
                bench.kill_at = None
                bench.sleep(60)
        steps += died
        numbered = [line.split()[1] for line in bench.log_of("reading")]
        assert len(set(numbered)) == len(numbered), numbered
        bench.link.answers = []
        bench.kill_at = None
        wakes(bench, 2)
        for line in bench.log_of("reading"):
            epoch, seq = line.split()[1].split(":")
            assert (int(epoch), int(seq)) in bench.link.delivered(), (kill_at, line)
    assert steps > 15


def test_after_a_power_cut_old_readings_get_no_younger_than_they_are():
    bench = Bench()
    bench.link.open_fault = "join"
    wakes(bench, 61)
    bench.power_cut()
    bench.link.open_fault = None
    bench.link.answers = [lambda report: Exchange(True, commands=[encode_commands([(ACK, 2, 1, 0)])])]
    wakes(bench, 1)
    old = bench.link.reports[1].readings[-1]
    assert (old.epoch, old.seq) == (1, 1)
    # Measured 15 readings before the newest of its file: that much is known.
    assert old.age_s >= 2 * 110 + 13 * 890


def test_damaged_settings_are_defaults_and_are_said():
    bench = Bench()
    bench.settings = "{"
    wake(bench.boot(cold=True))
    assert "fault settings" in bench.lines
