"""Apply a batch of receipts that web has kept: each becomes a fact, and one call applies them all.

Invariants, each with a test named after it:

- A batch leaves the ledger only after every fact of it was applied or put aside, in that order.
- One poisonous event is put aside alone, and the rest of its batch goes on; also one that ends whoever reads it.
- Running twice, or in any order, changes nothing more: facts have a rank.
- A receipt opts a person out only where its words say STOP: Telnyx reuses the code 40300 for carriers' refusals there.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from redis.exceptions import ResponseError

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.retrying import may_pass
from worker.patience import frames, patiently
from worker.telnyx.errors import Class, Verdict, classify, describe, says_stop
from worker.telnyx.receipts import Fact, parse_event, to_ledger
from worker.titles import short_title

# A batch should be applied at once. One that is met later may have ended those who tried: each such try is counted first.
LATE_US, LATE_TRIES, TRIES_KEPT_S = 9_000_000, 5, 604_800
ODD_KEPT = 10_000  # entries of the stream of what we could not use
ODD_EVENT_MAX_CHARS = 8_192
# A code ends up in the record's list of errors and in its timeline, whose separators it must not hold.
CODE_MAX_CHARS = 24

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Aside:
    """An event that we cannot use, and why, for a person to look at."""

    why: Literal["poison", "not_a_receipt"]
    event: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A fact, and the event that it was read from."""

    fact: calls.Fact = field(repr=False)
    event: str = field(repr=False)


def reconcile(batch: str, *, ledger: Ledger) -> Counter[str]:
    """Apply a batch and forget it; how many facts met which fate. Empty for a batch that is not there any more.

    Raises:
        redis.RedisError: the ledger stayed away; the timer points again.
    """
    reach("reconcile.before")
    name = calls.name_of_a_try()
    body, tries = patiently(lambda: _fetch(batch, name, ledger))
    if body is None:
        return Counter()
    reach("reconcile.after", batch)
    counts = _apply(batch, body, ledger) if tries <= LATE_TRIES else _carefully(batch, body, ledger)
    if tries:
        patiently(lambda: ledger.redis.hdel(ledger.key("rxt"), batch, f"{batch}@"))
    log.debug("receipts_recorded", batch=batch, **counts)
    return counts


def _fetch(batch: str, name: str, ledger: Ledger) -> tuple[bytes | None, int]:
    """The batch, if it is there, and how often it was begun late, this time included."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.get(ledger.key(f"rx:{batch}"))
        pipe.zscore(ledger.key("rx"), batch)
        pipe.time()
        body, heard_us, (seconds, micros) = pipe.execute()
    if body is None or heard_us is None or seconds * 1_000_000 + micros - heard_us < LATE_US:
        return body, 0
    return body, ledger.run(calls.reread(batch, None, kept_s=TRIES_KEPT_S, name=name))


def _apply(batch: str, body: bytes, ledger: Ledger) -> Counter[str]:
    """Apply what is in ``body`` and forget the batch ("": there is none to forget)."""
    receipts, asides = read_batch(body)
    put_aside(asides, ledger=ledger)
    reach("receipt.before")
    try:
        words = patiently(lambda: ledger.run(calls.receipt(batch, [receipt.fact for receipt in receipts])))
    except ResponseError as exc:
        if may_pass(exc):
            raise
        words = _one_by_one(batch, receipts, ledger=ledger)
    reach("receipt.after")
    tell_of_rests([receipt.fact for receipt in receipts])
    for receipt, word in zip(receipts, words, strict=True):
        if word == "duplicate":
            log.error("message_doubled", message_id=receipt.fact.ref, provider_id=receipt.fact.provider_id)
    return Counter(words) + Counter(aside.why for aside in asides)


def _carefully(batch: str, body: bytes, ledger: Ledger) -> Counter[str]:
    """One event at a time, each noted before it is touched: where an earlier job ended, the event is put aside unread."""
    counts: Counter[str] = Counter()
    redis: Any = ledger.redis

    def note(position: int) -> None:
        patiently(lambda: ledger.run(calls.reread(batch, position, kept_s=TRIES_KEPT_S)))

    noted = patiently(lambda: redis.hget(ledger.key("rxt"), f"{batch}@"))
    begun = -2 if noted is None else int(noted)
    if begun == -2:
        note(-1)
    rows: Any = [body.decode("utf-8", "replace")] if begun == -1 else _rows(body)  # -1: whoever read it whole had ended
    for position, row in enumerate(rows if isinstance(rows, list) else [body.decode("utf-8", "replace")]):
        if position < begun:
            continue  # applied before; and twice would change nothing
        if begun in (-1, position):
            log.error("receipt_poisoned", error="it ended whoever read it")
            put_aside([Aside("poison", row if isinstance(row, str) else json.dumps(row))], ledger=ledger)
            counts["poison"] += 1
            continue
        note(position)
        counts += _apply("", json.dumps([row]).encode(), ledger)
    patiently(lambda: ledger.run(calls.receipt(batch, [])))
    return counts


def read_batch(body: bytes) -> tuple[list[Receipt], list[Aside]]:
    """The receipts in a kept batch, and what is none. Never raises."""
    rows = _rows(body)
    if not isinstance(rows, list):
        return [], [Aside("poison", body.decode("utf-8", "replace"))]
    receipts: list[Receipt] = []
    asides: list[Aside] = []
    for row in rows:
        event = row if isinstance(row, str) else json.dumps(row, separators=(",", ":"))
        read = _read(event)
        if isinstance(read, Aside):
            asides.append(read)
        else:
            receipts.append(Receipt(read, event))
    return receipts, asides


def _rows(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def ledger_fact(fact: Fact, phase: Literal["w", "p"], *, now_s: float | None = None) -> calls.Fact:
    """A fact of Telnyx's as the ledger takes it. ``phase``: w of a webhook, p of a poll.

    ``now_s``: Unix time, for limits that end at a midnight; without it they are looked at again in an hour.
    """
    given = to_ledger(fact)
    error: tuple[str, str, str] | None = None
    rest: calls.Rest | None = None
    stop = False
    if "er" in given:
        code = "".join(c for c in str(given["er"][1]) if c.isascii() and c.isalnum())[:CODE_MAX_CHARS]
        title = str(given["er"][2]) or describe(code, "receipt")
        error = (phase, code, short_title(title))
        rest = _rest(classify("receipt", code, title=title, now_s=now_s))
        stop = says_stop(code, title)
    return calls.Fact(
        ref=given.get("ref"),
        provider_id=given.get("pid"),
        state=given.get("st"),
        raw=given.get("raw"),
        to=[(number, letter) for number, letter in given.get("to", [])],
        from_number=given.get("from"),
        parts=given.get("parts"),
        error=error,
        read=bool(given.get("rd")),
        rest=rest,
        stop=stop,
        carrier=given.get("ca"),
        cost=given.get("co"),
        sent_ms=given.get("sm"),
        done_ms=given.get("dm"),
    )


def _rest(verdict: Verdict) -> calls.Rest | None:
    """What must rest after an accepted message failed so: a carrier's limit, or a sender that is not set up."""
    scope = verdict.scope
    if not verdict.hold_s or scope == "" or scope == "recipient":  # noqa: PLR1714 - a type checker reads this one
        return None
    return calls.Rest(round(verdict.hold_s * 1e6), scope, verdict.code, verdict.class_ is Class.SLOW_DOWN)


def tell_of_rests(facts: list[calls.Fact]) -> None:
    """One line for each kind of limit that these facts speak of, for whoever is on call."""
    rests = Counter(fact.rest._replace(hold_us=0) for fact in facts if fact.rest is not None)
    for rest, messages in rests.items():
        say = log.warning if rest.feedback else log.error
        say("sending_rests", code=rest.why, scope=rest.scope, messages=messages, words=describe(rest.why, "receipt"))


def put_aside(asides: list[Aside], *, ledger: Ledger) -> None:
    """Keep what we could not use. It succeeds or raises, so nothing is forgotten on a server that takes no writes."""
    for aside in asides:
        call = calls.aside(aside.why, aside.event[:ODD_EVENT_MAX_CHARS], kept=ODD_KEPT)
        patiently(lambda call=call: ledger.run(call))  # type: ignore[misc]
        log.warning("event_put_aside", why=aside.why)


def _read(event: str) -> calls.Fact | Aside:
    try:
        parsed = parse_event(event.encode("utf-8", "replace"))
        if parsed.fact is None:
            return Aside("not_a_receipt", event)
        return ledger_fact(parsed.fact, "w", now_s=time.time())
    except Exception as exc:  # noqa: BLE001 - an event that we cannot read must not hold back its batch
        log.error("receipt_poisoned", error=type(exc).__name__, trace=frames(exc))
        return Aside("poison", event)


def _one_by_one(batch: str, receipts: list[Receipt], *, ledger: Ledger) -> list[str]:
    """The script refused the batch, so some fact of it is poison: apply each alone, and put aside what is refused again.

    What was applied before the refusal stays applied, and is known the second time.
    """
    words: list[str] = []
    for receipt in receipts:
        try:
            words += patiently(lambda fact=receipt.fact: ledger.run(calls.receipt("", [fact])))  # type: ignore[misc]
        except ResponseError as exc:
            if may_pass(exc):
                raise
            log.error("receipt_poisoned", error=str(exc)[:200])
            put_aside([Aside("poison", receipt.event)], ledger=ledger)
            words.append("poison")
    patiently(lambda: ledger.run(calls.receipt(batch, [])))
    return words
