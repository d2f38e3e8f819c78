"""The console answers what it is asked, refuses the rest, and shows no secret."""

from brim.core.console import Console
from brim.core.cycle import wake
from brim.wire.console_line import decode_answer, encode_request

from tests.device.bench import Bench


def ask(bench, verb, *args):
    """[(ok, code, fields)] of one request."""
    console = Console(bench.boot(cold=True))
    answers = []
    for line in console.handle(encode_request("7", verb, args)):
        ident, ok, code, fields = decode_answer(line)
        assert ident == "7"
        answers.append((ok, code, fields))
    return answers


def test_who_knows_the_bin_and_what_it_still_holds():
    bench = Bench()
    bench.link.open_fault = "no join"
    wake(bench.boot(cold=True))
    ok, _, fields = ask(bench, "who")[0]
    assert ok and fields["dev"] == "0011223344556677" and fields["link"] == "lorawan"
    assert (fields["epoch"], fields["seq"], fields["unsent"]) == (1, 1, 1)


def test_asking_who_changes_nothing():
    bench = Bench()
    ask(bench, "who")
    ask(bench, "live", "2")
    ask(bench, "diagnose")
    assert bench.events == [] and bench.link.reports == []


def test_live_counts_down():
    answers = ask(Bench(), "live", "3")
    assert [fields["left"] for _, _, fields in answers] == [2, 1, 0]
    assert [fields["distance_mm"] for _, _, fields in answers] == [812] * 3


def test_settings_are_read_and_changed_and_the_bin_takes_them_at_once():
    bench = Bench()
    assert ask(bench, "get", "sense_s") == [(True, "ok", {"sense_s": 900})]
    assert ask(bench, "set", "sense_s", "300") == [(True, "ok", {"sense_s": 300, "config": 1})]
    assert ask(bench, "get")[0][2]["sense_s"] == 300
    assert wake(bench.boot(cold=True)) <= 300
    assert bench.link.reports[0].readings[0].config_version == 1


def test_a_wrong_setting_is_refused_with_its_range():
    bench = Bench()
    assert ask(bench, "set", "sense_s", "1") == [(False, "value", {"hint": "sense_s is 60..43200"})]
    assert ask(bench, "set", "colour", "1")[0][1] == "value"
    assert bench.settings == "{}"


def test_wrong_use_is_told_how():
    assert ask(Bench(), "set", "sense_s") == [(False, "usage", {"hint": "set SETTING VALUE"})]
    assert ask(Bench(), "live", "0")[0][1] == "usage"
    assert ask(Bench(), "live", "x")[0][1] == "usage"
    assert ask(Bench(), "calibrate", "half")[0][1] == "usage"
    assert ask(Bench(), "fly")[0][:2] == (False, "verb")


def test_a_line_that_is_no_request_is_refused():
    console = Console(Bench().boot())
    for line in (b"hello", b"@7 who *00", b"\xff\xfe", b"@7 " + b"x" * 300):
        answers = list(console.handle(line))
        assert len(answers) == 1 and answers[0].startswith("!0 line ")


def test_test_uplink_and_the_wake_after_it_count_on():
    bench = Bench()
    answers = ask(bench, "test-uplink")
    assert answers[0][2]["reading"] == "1:1" and answers[0][2]["sent"] is True
    bench.echoes = [750] * 5
    wake(bench.boot())
    assert bench.log_of("reading")[-1] == "reading 1:2 ok 750"


def test_an_unprovisioned_bin_sends_nothing():
    bench = Bench()
    device = bench.boot(cold=True)
    device.identity = None
    lines = list(Console(device).handle("@1 test-uplink"))
    assert lines[0].startswith("!1 unprovisioned ")
    assert bench.link.opened_with is None
    assert decode_answer(next(iter(Console(device).handle("@1 who"))))[3]["dev"] is None


def test_a_broken_sensor_is_an_answer():
    bench = Bench()
    bench.echoes = None
    assert ask(bench, "live")[0][2]["status"] == "sensor_fault"
    results = {fields["test"]: fields["ok"] for _, _, fields in ask(bench, "diagnose")}
    assert results["ranger"] is False and results["battery"] is True


def test_reboot_waits_until_it_has_answered():
    device = Bench().boot()
    console = Console(device)
    answers = list(console.handle("@1 reboot"))
    assert len(answers) == 1 and decode_answer(answers[0])[3] == {"reboot": True}
    assert console.reboot_wanted and not device.rebooted
