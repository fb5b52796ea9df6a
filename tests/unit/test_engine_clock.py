from __future__ import annotations

import pytest

from worker.engine.clock import ServerClock

S = 1_000_000


def test_a_late_reply_moves_no_slot_into_the_future() -> None:
    clock = ServerClock()
    clock.observe(sent_s=10.0, server_us=1000 * S, received_s=15.0)
    assert clock.local_s(1001 * S) == pytest.approx(11.0)


def test_a_request_that_was_held_up_gives_way_to_a_quicker_one() -> None:
    clock = ServerClock()
    clock.observe(sent_s=10.0, server_us=1000 * S, received_s=12.0)  # it was 11.5 when the server saw it
    clock.observe(sent_s=12.5, server_us=1001 * S + 1000, received_s=12.502)
    assert clock.local_s(1001 * S + 1000) == pytest.approx(12.5, abs=0.01)


def test_a_quick_call_is_kept_over_later_slow_ones() -> None:
    clock = ServerClock()
    clock.observe(sent_s=10.0, server_us=1000 * S, received_s=10.0002)
    clock.observe(sent_s=11.0, server_us=1001 * S + 300_000, received_s=11.4)  # held up for 300 ms on its way
    assert clock.local_s(1002 * S) == pytest.approx(12.0, abs=0.005)


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_server_whose_clock_jumped_is_followed_at_once(jump_s: int) -> None:
    clock = ServerClock()
    clock.observe(sent_s=10.0, server_us=10_000 * S, received_s=10.001)
    clock.observe(sent_s=11.0, server_us=(10_001 + jump_s) * S, received_s=11.001)
    assert clock.local_s((10_002 + jump_s) * S) == pytest.approx(12.0, abs=0.005)


def test_it_maps_nothing_before_it_saw_the_server() -> None:
    with pytest.raises(RuntimeError, match="observe"):
        ServerClock().local_s(1)
