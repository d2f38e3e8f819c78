"""A small city joins at once, with the code of the full run; and the judge of the duty cycle is judged itself."""

from __future__ import annotations

import json

import pytest
from brim_tools.bench import rejoin
from brim_tools.bench.cli import app
from brim_tools.bench.rejoin_air import HOUR_US, Account, Air, Transmission, fullest_hour_us
from typer.testing import CliRunner


@pytest.mark.parametrize("scene", list(rejoin.SCENES))
def test_a_small_city_joins_and_every_hour_is_legal(scene: str) -> None:
    result = rejoin.measure(60, 3, scene)
    assert result["joined"] == 60
    assert result["legal"]
    half, most, every = result["hours_to_50_90_100_percent"]
    assert half <= most <= every < 24
    assert result["counts"]["join-accepts"] >= 60
    assert result["counts"]["join-requests"] > 60, "the first tries must collide, or nothing is shown"
    assert result["fullest_hour_of_the_concentrator_percent_of_legal"]["M"] > 10
    assert "downlinks that a bin refused" not in result["counts"]


def test_the_same_seed_gives_the_same_afternoon_and_another_one_another() -> None:
    one, again, other = (rejoin.measure(12, seed, "mixed") for seed in (1, 1, 2))
    for result in (one, again, other):
        del result["cpu_s"]
    assert one == again != other


def test_the_command_prints_json_for_scripts_and_refuses_an_unknown_scene() -> None:
    run = CliRunner().invoke(app, ["rejoin", "--bins", "3", "--scene", "sf12", "--json"])
    assert run.exit_code == 0
    assert json.loads(run.stdout)["joined"] == 3
    assert CliRunner().invoke(app, ["rejoin", "--scene", "sf6"]).exit_code == 2


def test_the_fullest_hour_counts_what_lies_partly_inside() -> None:
    second = 1_000_000
    assert fullest_hour_us([]) == 0
    assert fullest_hour_us([(0, 36 * second)]) == 36 * second
    # Two of 20 s that begin 3,590 s apart: the hour that ends with the second holds 10 s of the first.
    assert fullest_hour_us([(0, 20 * second), (3_590 * second, 3_610 * second)]) == 30 * second
    assert fullest_hour_us([(0, 20 * second), (3_620 * second, 3_640 * second)]) == 20 * second


def test_the_judge_sees_one_millisecond_too_much_and_a_frequency_where_nobody_may_send() -> None:
    account = Account()
    account.note("a", 868_100_000, 0, 36_000_000)
    assert account.most_percent(["a"]) == {"M": 100.0}
    account.note("a", 868_500_000, HOUR_US // 2, HOUR_US // 2 + 36_000)
    assert account.most_percent(["a"]) == {"M": 100.1}
    account.note("a", 868_650_000, 0, 1)
    assert account.most_percent(["a"])["none"] > 100
    assert account.most_percent(["b"]) == {}


def sent(at_us: int, snr_db: float = 0.0, freq_hz: int = 868_100_000, sf: int = 7) -> Transmission:
    return Transmission(0, freq_hz, sf, at_us, at_us + 100, snr_db, b"")


def test_on_one_channel_and_rate_only_the_much_stronger_frame_survives() -> None:
    air = Air()
    weak, strong, elsewhere, slower = sent(0), sent(50, 6.0), sent(60, -5.0, 868_300_000), sent(70, -5.0, sf=8)
    for each in (weak, strong, elsewhere, slower):
        air.start(each)
    assert [air.end(each) for each in (weak, strong, elsewhere, slower)] == [False, True, True, True]
    equal = sent(0), sent(99)
    for each in equal:
        air.start(each)
    assert [air.end(each) for each in equal] == [False, False]
    assert {each.lost for each in equal} == {"collision"}


def test_a_concentrator_hears_eight_at_once_and_nothing_while_it_sends() -> None:
    air = Air()
    many = [sent(0, freq_hz=867_100_000 + 200_000 * number) for number in range(9)]
    for each in many:
        air.start(each)
    assert [air.end(each) for each in many] == [True] * 8 + [False]
    assert air.send(1_000, 2_000)
    assert not air.send(1_999, 2_500), "one transmitter"
    late = sent(1_950)
    air.start(late)
    assert not air.end(late)
    assert late.lost == "concentrator sends"
    assert not heard_too_weak(air)


def heard_too_weak(air: Air) -> bool:
    weak = sent(10_000, -8.0)
    air.start(weak)
    return air.end(weak)
