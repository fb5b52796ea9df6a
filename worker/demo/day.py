"""The script of the day: what is enqueued when, who says STOP, and when a worker is killed.

Pure data and small acts; the runner calls each act once its time has come. Everything that is handed over is noted, for
in the end each single message must be accounted for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker.demo.people import NO_NUMBER, OUT_BY_APP, STOPS_LOCAL, STOPS_SALE, TOO_SHORT, People
from worker.sandbox.recipients import magic_number

if TYPE_CHECKING:
    from producers.notifier import Notifier
    from worker.demo.stage import Stage

CODES, CODE_EVERY_S, FIRST_CODE_S = 24, 0.35, 1.0
KILL_AT_S, DEAF_S = 5.0, 0.4
PICTURE = "https://example.com/ticket.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """One notification that was handed over. Times are this machine's, as the sandbox's are."""

    id: str
    job_type: str
    messages: int
    units: int  # that one message draws: the members of a group
    asked_us: int


@dataclass
class Day:
    """What has happened so far. ``say`` tells the audience."""

    stage: Stage
    notifier: Notifier
    say: Callable[[str], None]
    people: People = field(default_factory=People)
    fed: list[Fed] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # remedies, of requests that the API did not take
    problems: list[str] = field(default_factory=list)  # what went otherwise than the script says
    in_hands: list[str] = field(default_factory=list)  # messages that the killed worker was sending
    killed_us: int = 0

    def enqueue(self, job_type: str, *, to: Any, units: int = 1, **fields: Any) -> str:
        asked_us = _now_us()
        ticket = self.notifier.enqueue(job_type, to=to, **fields)
        self._note(ticket.id, job_type, ticket.messages, units, asked_us)
        return ticket.id

    def enqueue_each(self, job_type: str, recipients: Sequence[str], **fields: Any) -> None:
        """One notification for each, in one go."""
        asked_us = _now_us()
        rows = [{"job_type": job_type, "to": number, **fields} for number in recipients]
        for ticket in self.notifier.enqueue_many(rows):
            self._note(ticket.id, job_type, ticket.messages, 1, asked_us)

    def post(self, rows: list[dict[str, Any]]) -> None:
        """As :meth:`enqueue_each`, through the HTTP API; rows that it refuses are noted."""
        asked_us = _now_us()
        status, answer = self.stage.web.post("/v1/notifications/batch", rows)
        if status not in (202, 207):
            self.problems.append(f"the batch of {len(rows)} rows was answered {status}: {answer}")
            return
        for row, result in zip(rows, answer["notifications"], strict=True):
            if "id" in result:
                self._note(result["id"], row["job_type"], result["messages"], 1, asked_us)
            else:
                self._note_refusal(result["error"])

    def post_one(self, row: dict[str, Any], *, key: str | None = None) -> tuple[int, Any]:
        body = row if key is None else {**row, "idempotency_key": key}
        asked_us = _now_us()
        status, answer = self.stage.web.post("/v1/notifications", body)
        if status == 202:
            self._note(answer["id"], row["job_type"], answer["messages"], 1, asked_us)
        elif status == 422:
            self._note_refusal(answer)
        return status, answer

    def _note(self, id: str, job_type: str, messages: int, units: int, asked_us: int) -> None:
        if all(known.id != id for known in self.fed[-3:]):  # a repeat of the key is the same notification
            self.fed.append(Fed(id=id, job_type=job_type, messages=messages, units=units, asked_us=asked_us))

    def _note_refusal(self, problem: dict[str, Any]) -> None:
        self.refused += [f"{error['field']}: {error['remedy']}" for error in problem.get("errors") or []]


@dataclass(frozen=True, slots=True)
class Act:
    """``run`` is called once, when the day is ``at_s`` old."""

    at_s: float
    run: Callable[[Day], None]


def script() -> list[Act]:
    """The acts, in the order of their time."""
    acts = [
        Act(0.0, _sale),
        Act(0.1, _newsletter),
        Act(0.2, _appointments),
        Act(0.3, _tickets),
        Act(0.4, _travel),
        Act(0.5, _families),
        Act(0.6, _orders),
        Act(0.7, _difficult_people),
        Act(0.9, _bad_numbers),
        Act(1.5, _later_and_never),
        Act(2.0, _app_opts_somebody_out),
        Act(2.6, _travel_goes_on),
        Act(3.0, _stop),
        Act(4.5, _to_those_who_said_stop),
        Act(KILL_AT_S - DEAF_S, _lose_receipts),
        Act(KILL_AT_S, _kill),
        Act(KILL_AT_S + DEAF_S, _hear_again),
        *(Act(FIRST_CODE_S + i * CODE_EVERY_S, _code) for i in range(CODES)),
    ]
    return sorted(acts, key=lambda act: act.at_s)


def _sale(day: Day) -> None:
    """Bulk, on the sender that one-time codes use too. The last of the list will say STOP while they wait."""
    day.say("a sale to 220 people on the short code (25/s): bulk, and one-time codes will come on the same sender")
    spam = [magic_number(41, i) for i in range(3)]
    day.enqueue("sale", to=[*day.people.us(116), *spam, STOPS_SALE], variables={"discount": "20 %"})
    day.enqueue_each("sale", day.people.us(100), variables={"discount": "10 %"})


def _newsletter(day: Day) -> None:
    day.enqueue_each("newsletter", day.people.us(100), text="The autumn issue is out: https://example.com/autumn")


def _appointments(day: Day) -> None:
    """Through the HTTP API; two rows are no numbers."""
    names = ["Ada", "Grace", "Édith", "Zoë"]
    people = [*day.people.us(30), TOO_SHORT, *day.people.us(33), NO_NUMBER, STOPS_LOCAL]
    day.post(
        [
            {"job_type": "appointment", "to": number, "variables": {"name": names[i % 4], "day": "Monday"}}
            for i, number in enumerate(people)
        ]
    )


def _tickets(day: Day) -> None:
    for number in day.people.us(8):
        day.enqueue("ticket", to=number, text="Your ticket", media_urls=[PICTURE])
    lost = [magic_number(40, i) for i in range(20, 22)]
    day.enqueue_each("ticket", [*day.people.us(34), *lost], text="We have an answer for you: example.com/t/4711")


def _travel(day: Day) -> None:
    """The lane is paused for a while: two messages become too old in it. Alphanumeric senders cannot reach the US."""
    day.stage.web.post("/v1/lanes/brand/pause", {"reason": "demo"})
    gate = {"flight": "AC 123", "gate": "B7"}
    day.enqueue_each("travel_notice", day.people.uk(16), variables=gate)
    day.enqueue_each("travel_notice", day.people.uk(2), variables=gate, valid_for="1s")
    day.enqueue_each("travel_notice", day.people.us(2), variables=gate)


def _travel_goes_on(day: Day) -> None:
    day.stage.web.post("/v1/lanes/brand/resume", {})


def _families(day: Day) -> None:
    for _ in range(10):
        day.enqueue("family_update", to=day.people.us(3), units=3, text="Grandma is home, all is well")
    day.enqueue("family_update", to=[*day.people.us(2), magic_number(40, 30)], units=3, text="Dinner on Sunday?")


def _orders(day: Day) -> None:
    for i, number in enumerate([*day.people.us(36), *(magic_number(code) for code in (90, 91, 92))]):
        day.enqueue("order_update", to=number, variables={"order": f"A-{1000 + i}"})


def _difficult_people(day: Day) -> None:
    """Carrier failures, refusals, silence, lost answers: each of them on the long code."""
    day.say(
        "24 difficult people: carrier failures, refusals, silence, answers that get lost, doubled and late receipts"
    )
    codes = (40, 42, 43, 45, 48, 50, 50, 51, 51, 52, 58, 60, 61, 70, 71, 71, 72, 74, 77, 78, 80, 81, 82, 83)
    for i, code in enumerate(codes):
        number = magic_number(code, 40 + i)
        day.enqueue("appointment", to=number, variables={"name": "Kim", "day": "Tuesday"})


def _bad_numbers(day: Day) -> None:
    row = {"job_type": "ticket", "to": TOO_SHORT, "text": "never sent"}
    status, _ = day.post_one(row)
    if status != 422:
        day.problems.append(f"a number that cannot exist was answered {status}, not 422")
    repeat = {"job_type": "ticket", "to": day.people.us(1)[0], "text": "The same request twice is one notification"}
    first, second = day.post_one(repeat, key="order-1"), day.post_one(repeat, key="order-1")
    if first != second:
        day.problems.append(f"the same idempotency key gave {first} and {second}")


def _later_and_never(day: Day) -> None:
    """One for later, one that is cancelled in time."""
    now = datetime.now(UTC)
    values = {"name": "Lin", "day": "Friday"}
    day.enqueue("appointment", to=day.people.us(1)[0], variables=values, send_at=now + timedelta(seconds=6))
    id = day.enqueue("appointment", to=day.people.us(1)[0], variables=values, send_at=now + timedelta(hours=1))
    status, answer = day.stage.web.call("DELETE", f"/v1/notifications/{id}")
    if answer.get("cancelled") != 1:
        day.problems.append(f"cancelling in time was answered {status} {answer}")


def _app_opts_somebody_out(day: Day) -> None:
    day.stage.web.call("PUT", f"/v1/opt-outs/%2B{OUT_BY_APP[1:]}")
    day.enqueue("ticket", to=OUT_BY_APP, text="never sent")
    day.enqueue("family_update", to=[*day.people.us(2), OUT_BY_APP], units=2, text="The two others get it")


def _stop(day: Day) -> None:
    """Signed inbound messages, as Telnyx sends them. One of the two still waits in the sale's lane."""
    day.say("two people answer STOP; one of them is still queued for the sale")
    for person, number in ((STOPS_SALE, "12345"), (STOPS_LOCAL, "+13125550001")):
        body = {"from": person, "to": number, "text": "STOP", "webhook_url": f"{day.stage.web.url}/webhooks/telnyx"}
        status, answer = day.stage.sandbox.post("/sandbox/inbound", body)
        heard = [callback["status"] for callback in answer.get("callbacks", [])] if status == 200 else []
        if heard[-1:] != [200]:
            day.problems.append(f"a STOP was answered {heard or answer}")


def _to_those_who_said_stop(day: Day) -> None:
    day.enqueue("appointment", to=STOPS_LOCAL, variables={"name": "Sam", "day": "Monday"})
    day.enqueue("otp", to=STOPS_SALE, variables={"code": "000000"})


def _lose_receipts(day: Day) -> None:
    """Around the kill no receipt arrives: else one would tell the fate of what the dead worker held before anybody asks."""
    day.say("for a moment all receipts get lost on their way: polls will have to ask")
    day.stage.sandbox.post("/sandbox/faults", {"lose_receipts": 1.0})


def _hear_again(day: Day) -> None:
    day.stage.sandbox.post("/sandbox/faults", {"lose_receipts": 0.0})


def _kill(day: Day) -> None:
    """SIGKILL a whole tree, at a moment when it has requests under way."""
    held = day.notifier.ledger.key(f"held:{day.stage.processes['worker-1']}")
    redis: Any = day.notifier.ledger.redis
    deadline = time.monotonic() + 2
    while redis.hlen(held) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    day.killed_us = _now_us()
    day.stage.kill_worker("worker-1")
    day.in_hands = sorted(message.decode() for message in redis.hkeys(held))
    day.say(f"kill -9 of one of the two worker trees, with {len(day.in_hands)} messages in its hands")


def _code(day: Day) -> None:
    day.enqueue("otp", to=day.people.us(1)[0], variables={"code": f"{len(day.fed):06d}"})


def due(acts: list[Act], age_s: float) -> Iterator[Act]:
    """Take the acts whose time has come off the list."""
    while acts and acts[0].at_s <= age_s:
        yield acts.pop(0)


def _now_us() -> int:
    return time.time_ns() // 1000
