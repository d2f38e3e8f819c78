from brim_tools.virtual.world import World


def test_an_unpaced_world_jumps_from_event_to_event_in_order() -> None:
    world, seen = World(paced=False), []
    world.at(5_000_000, lambda: seen.append(("b", world.now_us)))
    world.at(1_000_000, lambda: seen.append(("a", world.now_us)))
    world.at(5_000_000, lambda: seen.append(("c", world.now_us)))
    world.run()
    assert seen == [("a", 1_000_000), ("b", 5_000_000), ("c", 5_000_000)]


def test_a_run_ends_at_its_limit_and_goes_on_from_there() -> None:
    world, seen = World(paced=False), []
    world.at(10, lambda: seen.append(10))
    world.at(30, lambda: seen.append(30))
    world.run(20)
    assert (seen, world.now_us) == ([10], 20)
    world.run(40)
    assert seen == [10, 30]


def test_a_cancelled_event_does_not_happen() -> None:
    world, seen = World(paced=False), []
    world.at(10, lambda: seen.append(10)).cancel()
    world.run(20)
    assert seen == []


def test_a_paced_world_is_never_early() -> None:
    world, late_us = World(paced=True), []
    due_us = world.now_us + 20_000
    world.at(due_us, lambda: late_us.append(world.now_us - due_us))
    world.run(world.now_us + 60_000)
    world.close()
    assert late_us and late_us[0] >= 0
