"""Turn one chunk of a notification's recipients into messages: render, route, admit.

One chunk a job, and the job's successor goes to the tail of the queue, so that notifications share. Invariants, each
with a test named after it:

- Running twice, late, or twice at once admits each recipient once: ``admit`` compares the cursor.
- Each recipient of the chunk gets exactly one admission, in the chunk's order: its index is its message's id.
- What is wrong with one recipient ends that one; the others go on. What was rejected keeps its request for a day, so that
  it can be replayed once the cause is gone.
- A chunk that nobody can expand, also because it ends whoever tries, is given up after some tries: its recipients end
  rejected, and the notification goes on.
- A job type that a newer release published is left to its workers, never rejected by an older one.
- Of a job type with routes the sender is chosen here, and bound by ``admit``: a chunk that is expanded anew may choose
  otherwise, and what was admitted keeps its sender.
- No text, and no number in full, reaches the log.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.calls import Admission, Loaded, Step
from producers.ledger.ledger import Ledger
from producers.ledger.reading import CHUNK
from producers.ledger.scripts import Call
from producers.ledger.states import URGENT
from producers.pointers import URGENT_RECIPIENTS
from producers.retrying import may_pass
from worker.choosing import Chooser, Chosen, Facts, read_facts
from worker.compliance.time_zones import ZoneFields
from worker.content.rendering import JobTypeContent, render_content
from worker.content.templates import RenderError, TemplateError
from worker.content.windows import is_free_form, template_instead
from worker.patience import edge, frames, patiently
from worker.routing import Refusal, Route, refused_destination, route
from worker.settings import Config, Fallback, Sender
from worker.telnyx.builder import Content
from worker.titles import short_title

T = TypeVar("T")

LATE_TRIES = 5  # of a late chunk, each after a pointer of the timer: over a minute and a half in all

log = structlog.get_logger(__name__)


class Expanded(NamedTuple):
    """What one job did. ``nothing``: there was nothing to do here; ``left``: for a worker of a newer release."""

    outcome: Literal["admitted", "nothing", "left"]
    queued: int = 0
    ended: int = 0
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a chunk becomes. ``shared`` is the content of every admission that has none of its own; ``zones`` are the tables
    of the time zones that they name."""

    shared: str
    items: list[Admission] = field(repr=False)
    zones: Mapping[str, str] = field(default_factory=dict, repr=False)
    steps: Sequence[Step] = field(default=(), repr=False)  # what may follow those that share it


@dataclass(frozen=True, slots=True)
class _Made:
    """A content, ``packed`` as it is kept, and the ways out that were looked at, by sender."""

    content: Content = field(repr=False)
    packed: str = field(repr=False)
    ways: dict[str, Route | Refusal] = field(default_factory=dict)
    free_form: bool = False
    template: str | None = field(default=None, repr=False)
    steps: tuple[tuple[Sender, Step], ...] = ()

    def steps_for(self, to: str, chosen: str | None) -> list[Step]:
        """Those that can reach ``to``, but for the sender that was chosen: what failed there will hardly arrive there."""
        return [
            step
            for sender, step in self.steps
            if _reaches(sender, to) and (chosen is None or step.lane.removesuffix(".mms") != chosen)
        ]


def _reaches(sender: Sender, to: str) -> bool:
    is_a_number = to.startswith("+")  # WhatsApp knows people by other names too
    return (is_a_number or sender.channel == "whatsapp") and refused_destination(sender, to) is None


@dataclass(frozen=True, slots=True)
class _AsFallback:
    """A job type as one of its fallbacks has it."""

    template: str | None
    media_urls: Sequence[str]
    whatsapp_template: dict[str, Any] | None
    smart_replacement: bool


def expand_all(
    notifications: Sequence[str],
    cursor: str | None,
    *,
    ledger: Ledger,
    config: Config,
    point: Callable[[str, bool, str | None], None],
) -> list[Expanded]:
    """Expand the chunk of each at ``cursor`` (None: whichever is next), in two round trips; point at those after.

    Args:
        point: Enqueues a successor: notification, whether it is urgent and small, cursor.

    Returns:
        What was done with each. One that fails by itself is logged, left to its timer, and "nothing" here.

    Raises:
        redis.RedisError: the ledger stayed away; the timers point again.
    """
    reach("load.before")
    found = patiently(lambda: _clear(ledger.run_many([calls.load(id, cursor) for id in notifications])))
    reach("load.after")
    ready: list[tuple[int, Loaded]] = []
    planned: list[tuple[int, Loaded, Plan]] = []
    done = [Expanded("nothing")] * len(notifications)
    for i, (id, loaded) in enumerate(zip(notifications, found, strict=True)):
        if loaded is None:
            continue
        with edge("expand", notification=id):
            if isinstance(loaded, Exception):
                raise loaded
            name = _text(loaded.record, "jt")
            if name not in config.job_types and _is_published(ledger, name):
                log.info("expansion_left_to_newer_release", notification=id, job_type=name)
                done[i] = Expanded("left")
                continue
            ready.append((i, loaded))
    tries = _count_tries([(notifications[i], loaded) for i, loaded in ready if loaded.late], ledger)
    facts = facts_for([loaded for _, loaded in ready], config, ledger)
    for i, loaded in ready:
        with edge("expand", notification=notifications[i]):
            given_up = tries.get(notifications[i], 0) > LATE_TRIES
            planned.append((i, loaded, give_up(loaded) if given_up else plan(loaded, config, facts)))
    zones = {zone: table for _, _, made in planned for zone, table in made.zones.items()}
    admits: list[Call[Any]] = [calls.zones(zones)] if zones else []  # before those that name them, in the same trip
    admits += [
        calls.admit(notifications[i], loaded.cursor, made.shared, made.items, made.steps) for i, loaded, made in planned
    ]
    reach("admit.before")
    answers: list[Any] = patiently(lambda: _clear(ledger.run_many(admits)))
    if zones and isinstance(told := answers.pop(0), Exception):
        raise told  # what names a zone that is not known would be rejected
    reach("admit.after")
    for (i, loaded, made), admitted in zip(planned, answers, strict=True):
        with edge("expand", notification=notifications[i]):
            if isinstance(admitted, Exception):
                raise admitted
            _report(notifications[i], made, admitted)
            done[i] = Expanded("admitted", admitted.queued, admitted.ended, admitted.next_cursor)
            if admitted.next_cursor is not None:
                _point_at_next(notifications[i], loaded, admitted.next_cursor, point)
    return done


def expand(
    notification: str,
    cursor: str | None,
    *,
    ledger: Ledger,
    config: Config,
    point: Callable[[str, bool, str | None], None],
) -> Expanded:
    """As :func:`expand_all`, of one."""
    return expand_all([notification], cursor, ledger=ledger, config=config, point=point)[0]


def _clear(replies: list[T | Exception]) -> list[T | Exception]:
    """The replies, if none of them says that the server is unable for the moment: then all are asked for again.

    Not where memory is full: that lasts, and concerns many recipients alone. They wait for their timer, the others go on.
    """
    for reply in replies:
        if isinstance(reply, Exception) and may_pass(reply) and not isinstance(reply, OutOfMemoryError):
            raise reply
    return replies


def _count_tries(late: Sequence[tuple[str, Loaded]], ledger: Ledger) -> dict[str, int]:
    """Count, before it is done, that these are tried once more; a job that dies of one of them counts nothing afterwards."""
    if not late:
        return {}
    name = calls.name_of_a_try()
    found = patiently(lambda: _clear(ledger.run_many([calls.attempt(id, loaded.cursor, name) for id, loaded in late])))
    return {id: tries for (id, _), tries in zip(late, found, strict=True) if isinstance(tries, int)}


def _point_at_next(id: str, loaded: Loaded, cursor: str, point: Callable[[str, bool, str | None], None]) -> None:
    try:
        reach("successor.before")
        point(id, is_urgent_and_small(loaded), cursor)
        reach("successor.after")
    except RedisError as exc:  # the chunk is admitted all the same, and the timer points at the next one
        log.warning("pointer_lost", notification=id, error=type(exc).__name__)


def facts_for(chunks: Sequence[Loaded], config: Config, ledger: Ledger) -> Facts | None:
    """What choosing senders needs to know; None, and nothing is asked, where no job type has a choice."""
    wanted = []
    for loaded in chunks:
        job = config.job_types.get(_text(loaded.record, "jt"))
        if job is not None and job.routes:
            with contextlib.suppress(
                ValueError, TypeError
            ):  # a chunk that nobody can read is ended where it is planned
                wanted.append((job, [to for to, _ in _rows(loaded)]))
    if not wanted:
        return None
    try:
        return patiently(lambda: read_facts(ledger, config, wanted))
    except RedisError:
        raise
    except Exception as exc:  # noqa: BLE001 - what is known helps to choose; without it there is a choice too
        log.error("routing_facts_unreadable", error=type(exc).__name__, trace=frames(exc))
        return None


def plan(loaded: Loaded, config: Config, facts: Facts | None = None) -> Plan:
    """Render and route what was loaded. Pure, but for its log lines.

    Args:
        facts: Of ``facts_for``; without them every sender counts as able, and nothing is remembered of anybody.

    Raises:
        ValueError: The chunk is not what ``submit`` writes; no recipient can be told from it.
    """
    name = _text(loaded.record, "jt")
    rows = _rows(loaded)
    request = json.loads(loaded.content or b"{}")
    may_share = loaded.cursor is not None
    job = config.job_types.get(name)
    sender = config.senders.get(job.sender) if job is not None else None
    if job is None or sender is None:
        missing = f"job type {name}" if job is None else f"sender {job.sender}"
        refusal = Refusal("job_type" if job is None else "sender", short_title(f"{missing} is not in notify.toml"))
        kept = [_request_of(request, variables) if may_share else None for _, variables in rows]
        return Plan("", [_rejected(to, refusal, own) for (to, _), own in zip(rows, kept, strict=True)])
    zones = ZoneFields(_submitted(loaded)) if job.has_rules else None
    facts = facts or Facts(int(loaded.record["at"]))
    chunk = _Chunk(name, config, request, zones, facts, at_us=int(loaded.record.get("sa", b"0")), may_share=may_share)
    items = [chunk.admission(to, variables) for to, variables in rows]
    shared = chunk.shared if any(not item.reject and item.content is None for item in items) else ""
    steps = chunk.shared_steps if any(item.shares_steps and item.steps for item in items) else ()
    return Plan(shared, items, zones.tables if zones else {}, steps)


def give_up(loaded: Loaded) -> Plan:
    """The end of a chunk that nobody could expand: its recipients are rejected, whatever is wrong with it."""
    refusal = Refusal("poison", "no worker could expand it: see the workers' logs")
    try:
        rows = _rows(loaded)
        request = json.loads(loaded.content or b"{}")
        own = [_request_of(request, variables) if loaded.cursor is not None else None for _, variables in rows]
        items = [_rejected(to, refusal, content) for (to, _), content in zip(rows, own, strict=True)]
    except Exception:  # noqa: BLE001 - of an unreadable chunk only the number of its recipients is known
        items = [_rejected("", refusal)] * _size(loaded)
    log.error("chunk_given_up", recipients=len(items))
    return Plan("", items)


def _rows(loaded: Loaded) -> list[tuple[str, Mapping[str, Any] | None]]:
    if loaded.cursor is None:
        return [(_text(loaded.record, "to"), None)]
    return [(to, variables) for to, variables in json.loads(loaded.chunk)]


def _size(loaded: Loaded) -> int:
    """How many recipients a chunk has: all but the last of a notification are full."""
    if loaded.cursor is None:
        return 1
    left = int(loaded.record["tot"]) - int(loaded.record["ex"])
    return left if int(loaded.cursor) + 1 >= int(loaded.record["nch"]) else min(CHUNK, left)


def _request_of(request: Mapping[str, Any], variables: Mapping[str, Any] | None) -> str:
    """What a recipient of many would have been sent by, alone: the request with the recipient's own variables."""
    if variables:
        request = {**request, "variables": {**request.get("variables", {}), **variables}}
    return json.dumps(
        request, separators=(",", ":")
    )  # ASCII: also what could not be stored as text comes back as it was


def is_urgent_and_small(loaded: Loaded) -> bool:
    """Whether the notification has the queue of its own that urgent ones of few recipients have."""
    record = loaded.record
    return int(record["k"]) == URGENT and int(record.get("tot", b"1")) <= URGENT_RECIPIENTS


class _Chunk:
    """What all recipients of a chunk have in common. Those without variables of their own share one content, unless the
    chunk is a lone message (``may_share`` False), which keeps its content in its record."""

    def __init__(
        self,
        name: str,
        config: Config,
        request: Mapping[str, Any],
        zones: ZoneFields | None,
        facts: Facts,
        *,
        at_us: int,
        may_share: bool,
    ) -> None:
        self._config = config
        self._zones = zones
        self._job = config.job_types[name]
        self._chooser = Chooser(self._job, config=config, facts=facts, at_us=at_us) if self._job.routes else None
        self._sender = config.senders[self._job.sender]
        self._request = request
        self._may_share = may_share
        self._ahead = (request.get("schedule") or self._job.schedule) == "provider"

    @property
    def shared(self) -> str:
        return self._for_all.packed if isinstance(self._for_all, _Made) else ""

    def admission(self, to: str, variables: Mapping[str, Any] | None) -> Admission:
        try:
            settled = self._settle(to, variables)
        except Exception as exc:  # noqa: BLE001 - one recipient must not hold back the others
            settled = _poison(exc)
        if isinstance(settled, Refusal):
            return _rejected(to, settled, _request_of(self._request, variables) if self._may_share else None)
        made, sender, way = settled
        is_own = bool(variables) or not self._may_share
        zones = self._zones.of(to.split(",")) if self._zones else ""
        steps = made.steps_for(to, sender if self._job.routes else None)
        return Admission(
            to=to,
            lane=way.lane,
            ahead=self._ahead and self._config.senders[sender].rules.may_schedule,
            units=way.units,
            content=made.packed if is_own else None,
            zones=zones,
            free_form=made.free_form,
            template=made.template,
            request=_request_of(self._request, variables) if made.free_form and self._may_share else None,
            steps=steps,
            shares_steps=not is_own and len(steps) == len(made.steps),
            sticky=sender if self._job.sticky else "",
        )

    def _settle(self, to: str, variables: Mapping[str, Any] | None) -> tuple[_Made, str, Route] | Refusal:
        """Content, sender and lane of one message."""
        made = self._make(variables) if variables else self._for_all
        if isinstance(made, Refusal):
            return made
        chosen = self._choose(to, made)
        return chosen.way if isinstance(chosen.way, Refusal) else (made, chosen.sender, chosen.way)

    def _choose(self, to: str, made: _Made) -> Chosen:
        """The sender of one message, and its lane."""

        def way(name: str) -> Route | Refusal:
            if name not in made.ways:
                sender = self._config.senders[name]
                made.ways[name] = self._way(name, sender, made.content)
            return made.ways[name]

        if self._chooser is not None:
            return self._chooser.choose(to, way)
        found = way(self._job.sender)
        refusal = None if isinstance(found, Refusal) else refused_destination(self._sender, to)
        return Chosen(self._job.sender, refusal or found)

    @property
    def shared_steps(self) -> list[Step]:
        return [step for _, step in self._for_all.steps] if isinstance(self._for_all, _Made) else []

    @cached_property
    def _for_all(self) -> _Made | Refusal:
        """The content of those without variables of their own."""
        try:
            return self._make(None)
        except Exception as exc:  # noqa: BLE001 - made once for all of them, so it fails and is logged once
            return _poison(exc)

    def _make(self, variables: Mapping[str, Any] | None) -> _Made | Refusal:
        made = self._render(self._job, self._sender, variables)
        if isinstance(made, Refusal) or not self._fallbacks:
            return made
        steps: list[tuple[Sender, Step]] = []
        for leg, sender, as_fallback in self._fallbacks:
            step = self._step(leg, sender, as_fallback, variables)
            if isinstance(step, Refusal):  # the message itself can leave, so it does
                log.warning("fallback_impossible", sender=leg.sender, why=step.code, title=step.title)
                continue
            steps.append((sender, step))
        return replace(made, steps=tuple(steps))

    def _step(
        self, leg: Fallback, sender: Sender, job: JobTypeContent, variables: Mapping[str, Any] | None
    ) -> Step | Refusal:
        made = self._render(job, sender, variables)
        if isinstance(made, Refusal):
            return made
        way = self._way(leg.sender, sender, made.content)
        if isinstance(way, Refusal):
            return way
        after_us = leg.after_s * 1_000_000
        return Step(way.lane, after_us, made.packed, way.units, free_form=made.free_form, template=made.template)

    @cached_property
    def _fallbacks(self) -> list[tuple[Fallback, Sender, _AsFallback]]:
        found = []
        for leg in self._job.fallback:
            template = leg.whatsapp_template
            own = template.model_dump(exclude_unset=True) if template is not None else self._job.whatsapp_template
            as_fallback = _AsFallback(
                self._job.template, self._job.media_urls, own, smart_replacement=self._job.smart_replacement
            )
            found.append((leg, self._config.senders[leg.sender], as_fallback))
        return found

    def _render(self, job: JobTypeContent, sender: Sender, variables: Mapping[str, Any] | None) -> _Made | Refusal:
        try:
            fields = render_content(job, self._request, channel=sender.channel, variables=variables)
        except (RenderError, TemplateError) as exc:
            return Refusal("content", short_title(str(exc)))  # neither quotes a variable
        content = Content(
            text=fields.get("text"),
            media_urls=tuple(fields.get("media_urls") or ()),
            subject=fields.get("subject"),
            whatsapp=fields.get("whatsapp"),
        )
        free_form = is_free_form(content.whatsapp)
        template = template_instead(job, self._request, variables) if free_form else None
        return _Made(content, content.to_json().decode(), {}, free_form, template)

    def _way(self, name: str, sender: Sender, content: Content) -> Route | Refusal:
        return route(name, sender, content, max_parts=self._job.max_parts)


def _poison(exc: Exception) -> Refusal:
    log.error("recipient_poisoned", error=type(exc).__name__, trace=frames(exc))
    return Refusal("poison", short_title(f"{type(exc).__name__} while rendering: see the worker's log"))


def _rejected(to: str, refusal: Refusal, content: str | None = None) -> Admission:
    """``content``: the request of a recipient of many; a lone message has it in its record already."""
    return Admission(to=to, reject=refusal.code, title=refusal.title, content=content)


def _is_published(ledger: Ledger, job_type: str) -> bool:
    """Whether the configuration that holds now has the job type; ours may be that of an older release."""
    body: Any = patiently(lambda: ledger.redis.hget(ledger.key("cfg"), "json"))
    return bool(body) and job_type in json.loads(body)["job_types"]


def _report(notification: str, made: Plan, admitted: calls.Admitted) -> None:
    rejected = Counter(item.reject for item in made.items if item.reject)
    if rejected:
        log.warning("recipients_rejected", notification=notification, by_code=dict(rejected))
    log.debug("chunk_expanded", notification=notification, queued=admitted.queued, ended=admitted.ended)


def _submitted(loaded: Loaded) -> datetime:
    return datetime.fromtimestamp(int(loaded.record["at"]) / 1_000_000, UTC)


def _text(record: Mapping[str, bytes], name: str) -> str:
    return record[name].decode()
