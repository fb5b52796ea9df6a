"""Telnyx's list of opt-outs, read while it changes: the sandbox's own block list, paged as the sandbox pages it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ledger_kit import publication
from structlog.testing import capture_logs

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.pointers import Pointers
from worker.compliance.opt_out_list import SyncState, ask_for_list, read_sync
from worker.compliance.opt_outs import opted_out_among, read_opt_out
from worker.opt_out_sync import OptOutSync, start_if_due
from worker.sandbox import RunningSandbox, SandboxOptions, running_sandbox
from worker.sandbox.opt_outs import Blocks
from worker.settings.model import Sender
from worker.telnyx.gateway import Gateway
from worker.telnyx.opt_out_list import ListedOptOut, OptOutPage, list_path, read_page
from worker.telnyx.outcomes import Unavailable

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
SCOPE = f"profile:{PROFILE}"
OURS = "+13125550001"
SENDERS = {"local": Sender.model_validate({"channel": "long_code", "rate": "1/s", "from": OURS})}
DAY_US = 86_400_000_000
PAGE = 3  # rows of a page here, so that a few persons slide over many pages


class Telnyx:
    """The list, by what the sandbox keeps. ``between`` runs before each request: there the list changes."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.between: Callable[[int], None] = lambda _request: None
        self.requests = 0
        self.page = 0
        self.fail: dict[int, Unavailable] = {}

    def say(self, person: str, text: str, at_us: int) -> None:
        self.blocks.apply(person=person, number=OURS, profile=PROFILE, text=text, now_us=at_us)

    def blocked(self) -> set[str]:
        return {block.person for block in self.blocks.rows()}

    async def list_opt_outs(self, *, since_s: int, until_s: int, page: int) -> OptOutPage | Unavailable:
        self.requests += 1
        self.page = page
        self.between(self.requests)
        if self.requests in self.fail:
            return self.fail[self.requests]
        found = [b for b in self.blocks.rows() if since_s * 1_000_000 <= b.created_us <= until_s * 1_000_000]
        shown = found[(page - 1) * PAGE : page * PAGE]
        meta = {"total_results": len(found), "total_pages": max(1, -(-len(found) // PAGE))}
        return read_page({"data": [b.row(is_redacted=False) for b in shown], "meta": meta}) or Unavailable("unreadable")


class Site:
    """One ledger and its provider. Days pass by moving what the ledger knows of the past, for the server's clock is real."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.telnyx = Telnyx()

    @property
    def now_us(self) -> int:
        return read_sync(self.ledger)[1]

    def state(self) -> SyncState:
        return read_sync(self.ledger)[0]

    def reader(self, *, turn_s: float = 60.0) -> OptOutSync:
        async def at_once(_s: float) -> None:
            return None

        async def here(call: Callable[[], Any]) -> Any:
            return call()

        return OptOutSync(
            lambda: self.telnyx, self.ledger, SENDERS, in_thread=here, sleep=at_once, turn_s=turn_s, window_rows=6
        )

    def read(self, *, turns_most: int = 200, turn_s: float = 60.0) -> None:
        reader = self.reader(turn_s=turn_s)
        for _ in range(turns_most):
            if not asyncio.run(reader.turn()):
                return
        raise AssertionError(f"not done after {turns_most} turns: {self.state()}")

    def next_day(self) -> None:
        """Whatever has been read was read a day ago; who was listed, is by then in a list of the past."""
        redis: Any = self.ledger.redis
        for field in ("new_us", "tried_us"):
            redis.hincrby(self.ledger.key("os"), field, -DAY_US)

    def out(self, number: str) -> bool:
        return bool(opted_out_among(self.ledger, [number], ["global", SCOPE]))

    def webhook(self, number: str, text: str, at_us: int) -> None:
        direction: Any = "out" if text == "STOP" else "in"
        self.ledger.run(
            calls.opt(
                number, direction, scopes=[SCOPE, "sender:local"], occurred_us=at_us, source="webhook", evidence="e"
            )
        )


@pytest.fixture
def site(ledger: Ledger) -> Site:
    ledger.run(calls.publish(publication(), {}))
    return Site(ledger)


def person(i: int) -> str:
    return f"+1312555{i:04d}"


def test_the_first_reading_is_of_the_whole_list(site: Site) -> None:
    for i in range(40):
        site.telnyx.say(person(i), "STOP", site.now_us - (i + 1) * 3 * DAY_US)
    site.read()
    assert all(site.out(person(i)) for i in range(40))
    state = site.state()
    assert (state.newer, state.older, state.phase, state.error) == (1, 0, "", "")
    redis: Any = site.ledger.redis
    assert redis.xlen(site.ledger.key("ev")) == 0, "nobody is told of what was said long ago"


def test_what_a_lost_webhook_would_have_told_is_read_a_little_later(site: Site) -> None:
    site.read()
    site.telnyx.say(person(1), "STOP", site.now_us - 1)
    site.read()
    assert not site.out(person(1)), "it was read a moment ago"
    redis: Any = site.ledger.redis
    redis.hincrby(site.ledger.key("os"), "new_us", -250_000_000)
    requests = site.telnyx.requests
    site.read()
    assert site.out(person(1))
    assert site.telnyx.requests == requests + 1
    (event,) = [fields for _, fields in redis.xrange(site.ledger.key("ev"))]
    assert (event[b"y"], event[b"m"]) == (b"opt_out.changed", person(1).encode())


def test_a_lost_start_is_found_by_the_second_list_without_it_and_not_before(site: Site) -> None:
    site.telnyx.say(person(1), "STOP", site.now_us - 5 * DAY_US)
    site.telnyx.say(person(2), "STOP", site.now_us - 5 * DAY_US)
    site.webhook(person(1), "STOP", site.now_us - 5 * DAY_US)
    site.read()
    site.telnyx.say(person(1), "START", site.now_us)
    for _ in range(2):
        assert site.out(person(1))
        site.next_day()
        site.read()
    assert not site.out(person(1)) and site.out(person(2))
    assert not read_opt_out(site.ledger, person(1), "sender:local").opted_out, "the webhook had set it there too"
    assert site.state().lifted == 2


@pytest.mark.parametrize("reason", ["http_500", "http_401"])
def test_a_list_that_breaks_off_goes_on_where_it_was_and_lifts_nothing(site: Site, reason: str) -> None:
    for i in range(30):
        site.telnyx.say(person(i), "STOP", site.now_us - (i + 2) * DAY_US)
    site.telnyx.fail = {n: Unavailable(reason, alert=reason == "http_401") for n in range(8, 12)}
    tries = 0
    while not site.state().newer:
        site.read()
        tries += 1
        assert tries < 10
    assert tries == 5
    assert all(site.out(person(i)) for i in range(30))
    assert site.telnyx.requests < 150


def test_a_list_that_cannot_be_read_for_two_days_is_an_error_in_the_log(site: Site) -> None:
    site.read()
    redis: Any = site.ledger.redis
    logged: list[list[str]] = []
    for days in (0, 1, 1):
        redis.hincrby(site.ledger.key("os"), "newer_us", -days * DAY_US - 1_000_000)
        site.next_day()
        site.telnyx.fail = dict.fromkeys(range(1_000), Unavailable("http_500"))
        with capture_logs() as log:
            site.read()
        logged.append([line["event"] for line in log if line["log_level"] == "error"])
    assert logged == [[], [], ["opt_out_list_stale"]]


def test_an_empty_list_lifts_nobody_until_a_person_says_so(site: Site) -> None:
    """As if the key were another account's."""
    for i in range(60):
        site.telnyx.say(person(i), "STOP", site.now_us - 5 * DAY_US)
    site.read()
    known, site.telnyx.blocks = site.telnyx.blocks, Blocks()
    for _ in range(3):
        site.next_day()
        site.read()
    assert all(site.out(person(i)) for i in range(60))
    assert (site.state().held, site.state().lifted) == (60, 0)
    assert known.rows()
    ask_for_list(site.ledger, lift=True)
    site.read()
    assert not any(site.out(person(i)) for i in range(60))
    assert (site.state().held, site.state().lifted, site.state().allowed) == (0, 60, "")


def test_a_masked_list_counts_as_none(site: Site) -> None:
    site.telnyx.say(person(1), "STOP", site.now_us - DAY_US)
    site.telnyx.say("+1312****", "STOP", site.now_us - DAY_US)
    site.read()
    assert (site.state().newer, site.state().error) == (0, "rows_unreadable")


def test_one_process_reads_at_a_time_and_who_lost_its_lease_writes_nothing(site: Site) -> None:
    redis: Any = site.ledger.redis
    redis.set(site.ledger.key("os:lease"), "another", px=60_000)
    site.read()
    assert site.telnyx.requests == 0
    redis.delete(site.ledger.key("os:lease"))

    def lose(request: int) -> None:
        if request == 2:
            redis.set(site.ledger.key("os:lease"), "another", px=60_000)
            redis.hset(site.ledger.key("os"), "cursor_s", 77)

    site.telnyx.between = lose
    site.read()
    assert (site.state().cursor_s, site.state().newer) == (77, 0)


def test_a_turn_ends_in_time_and_the_next_goes_on(site: Site) -> None:
    for i in range(40):
        site.telnyx.say(person(i), "STOP", site.now_us - (i + 2) * DAY_US)
    assert asyncio.run(site.reader(turn_s=0.0).turn()) is True
    assert site.state().phase == "list"
    site.read()
    assert site.state().newer == 1


def test_anybody_starts_it_and_nobody_twice(redis_url: str, namespace: str, ledger: Ledger) -> None:
    pointers = Pointers(connect(redis_url, answer_s=10), namespace)
    assert [start_if_due(ledger, pointers) for _ in range(3)] == [True, False, False]
    redis: Any = ledger.redis
    assert redis.llen(f"{{{namespace}}}:d:chores") == 1
    assert 0 < redis.pttl(ledger.key("os:due")) <= 240_000
    pointers.redis.close()


def test_a_row_that_slid_past_us_in_both_lists_is_still_there(site: Site) -> None:
    """Between two pages somebody of the first page is lifted: all later rows move up by one, and one of them is not seen."""
    for i in range(6):
        site.telnyx.say(person(i), "STOP", site.now_us - (5 + i) * DAY_US)
    site.read()
    lifted: list[str] = []
    days = 0

    def slide(_request: int) -> None:
        if site.telnyx.page == 2 and site.state().phase == "list" and len(lifted) < days:
            lifted.append(site.telnyx.blocks.rows()[0].person)
            site.telnyx.say(lifted[-1], "START", site.now_us)

    site.telnyx.between = slide
    for days in (1, 2):
        if days == 2:  # so that the same row stands first on the second page again
            site.telnyx.say(person(9), "STOP", site.now_us - DAY_US // 2)
        site.next_day()
        site.read()
        assert len(lifted) == days
    assert site.state().newer == 3
    assert {person(i) for i in range(6) if site.out(person(i))} >= site.telnyx.blocked()


# --- pages that slide

STEPS = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from(["STOP", "START"]), st.integers(0, 11), st.booleans()), max_size=25
)


@pytest.fixture(scope="module")
def shared(redis_url: str) -> Iterator[Any]:
    redis = connect(redis_url, answer_s=10)
    yield redis
    redis.close()


@settings(max_examples=15, derandomize=True)
@given(steps=STEPS, start=st.sets(st.integers(0, 11)), seed=st.integers(0, 1000))
@example(steps=[(2, "START", 11, False), (3, "STOP", 1, False)], start=set(range(12)), seed=0)
def test_whatever_slides_nobody_who_is_blocked_passes_and_in_the_end_all_that_was_listed_agrees(
    shared: Any, steps: list[tuple[int, str, int, bool]], start: set[int], seed: int
) -> None:
    """People say STOP and START between any two requests, and the webhook of some is lost."""
    ledger = Ledger(shared, f"t{uuid.uuid4().hex[:12]}")
    ledger.run(calls.publish(publication(), {}))
    site = Site(ledger)
    chance = random.Random(seed)
    for i in start:
        site.telnyx.say(person(i), "STOP", site.now_us - chance.randrange(3, 300) * DAY_US)
    site.read()
    assert all(site.out(person(i)) for i in start)
    pending = sorted(steps)
    known = {person(i) for i in start}  # blocked at Telnyx, and told to us

    def change(request: int) -> None:
        while pending and pending[0][0] <= request - began:
            _, text, i, is_lost = pending.pop(0)
            at_us = site.now_us
            was = person(i) in site.telnyx.blocked()
            site.telnyx.say(person(i), text, at_us)
            if not is_lost:
                site.webhook(person(i), text, at_us)
            if text == "START":
                known.discard(person(i))
            elif not is_lost or (was and person(i) in known):
                known.add(person(i))
        assert all(site.out(number) for number in known), "a blocked number would pass"

    began = site.telnyx.requests
    site.telnyx.between = change
    for _ in range(3):
        site.next_day()
        site.read()
    change(10_000)
    site.telnyx.between = lambda _request: None
    for _ in range(2):  # two quiet days: what was said before the first is settled by the second
        for key in ("older_us", "newer_us"):
            ledger.redis.hset(ledger.key("os"), key, site.now_us)
        site.next_day()
        site.read()
    blocked = site.telnyx.blocked()
    ours = {person(i) for i in range(12) if site.out(person(i))}
    assert ours >= blocked
    for number in (
        ours - blocked
    ):  # STOP and a lost START between two readings: no list has shown it, so none may lift it
        said = read_opt_out(ledger, number, SCOPE).person
        assert said is not None and said.list == 0
    keys = list(shared.scan_iter(match=f"{{{ledger.namespace}}}:*", count=5000))
    shared.unlink(*keys)


# --- reading rows


def test_a_row_names_the_person_in_to_and_us_in_from() -> None:
    row = {
        "created_at": "2025-04-28 12:00:38.631252+00:00", "from": OURS, "to": "13125550100", "keyword": None,
        "messaging_profile_id": PROFILE.upper(),
    }  # fmt: skip
    page = read_page({"data": [row], "meta": {"total_results": 1, "total_pages": 1}})
    assert page == OptOutPage((ListedOptOut("+13125550100", OURS, PROFILE, 1_745_841_638_631_252, ""),), 1, 1)


@pytest.mark.parametrize(
    "body", [None, [], {}, {"data": []}, {"data": {}, "meta": {"total_results": 0, "total_pages": 0}}]
)
def test_an_odd_answer_is_no_empty_list(body: Any) -> None:
    assert read_page(body) is None


def test_persons_are_asked_for_unmasked() -> None:
    path = list_path(since_s=0, until_s=1_745_841_638, page=2)
    assert "redaction_enabled=false" in path and "created_at%5Blte%5D=2025-04-28T12%3A00%3A38Z" in path


def test_the_list_is_read_over_http_page_by_page(ledger: Ledger) -> None:
    ledger.run(calls.publish(publication(), {}))

    async def read_all(telnyx: RunningSandbox) -> None:
        gateway = Gateway("KEY0", telnyx.base_url, public_url=None)
        try:
            reader = OptOutSync(lambda: gateway, ledger, SENDERS, pause_s=0)
            while await reader.turn():
                pass
        finally:
            await gateway.aclose()

    with running_sandbox(SandboxOptions()) as telnyx, httpx.Client(base_url=telnyx.url) as client:
        for i in range(260):  # more than one page
            said = {"from": person(i), "to": OURS, "text": "STOP", "messaging_profile_id": PROFILE}
            assert client.post("/sandbox/inbound", json=said).status_code == 200
        asyncio.run(read_all(telnyx))
    state, _ = read_sync(ledger)
    assert (state.newer, state.newer_rows, state.error) == (1, 260, "")
    assert len(opted_out_among(ledger, [person(i) for i in range(260)], [SCOPE])) == 260
