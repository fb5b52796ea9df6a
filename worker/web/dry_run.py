"""Say what a notification would become, and write nothing: neither the notification nor its idempotency key.

Renders and routes as a worker will, so what is refused here would end ``rejected`` there. The time is an estimate from
the sender's own backlog and rate at this moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from producers.errors import FieldError
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.notification import ValidRequest, validate
from worker.choosing import Chooser, Chosen, Facts, read_facts
from worker.compliance.opt_outs import opted_out_among
from worker.compliance.time_zones import ZoneFields
from worker.content.parts import split
from worker.content.rendering import render_content
from worker.content.segments import Segments, count
from worker.content.templates import RenderError
from worker.content.windows import is_free_form, template_instead
from worker.pacing.lanes import read_lanes
from worker.routing import Refusal, Route, route
from worker.settings import Config, JobType, Sender
from worker.telnyx.builder import Content
from worker.times import rfc3339
from worker.web.problems import invalid
from worker.web.routes import steps_of

NUMBERS_A_CALL = 500
NEVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class _Trial:
    """One content, or why there is none; and the ways out that were looked at, by sender."""

    content: Content
    reason: str = ""
    needs_window: bool = False  # free-form WhatsApp without a template to take its place
    ways: dict[str, Route | Refusal] = field(default_factory=dict)

    def segments(self, sender: Sender) -> Segments | None:
        text = self.content.text
        if not text or not sender.rules.has_segments or self.content.media_urls:
            return None
        return count(text, short_code=sender.is_short_code)

    def parts(self, sender: Sender) -> list[str]:
        return split(self.content.text or "", short_code=sender.is_short_code)


def dry_run(
    fields: Mapping[str, Any], *, config: Config, job_types: Mapping[str, Any], ledger: Ledger, now_us: int
) -> dict[str, Any]:
    """The answer to ``?dry_run=true``.

    Raises:
        InvalidNotification: as the call itself would.
        Problem: 422, where the content of every recipient cannot be rendered.
    """
    request = validate(fields, job_types, now_us=now_us)
    job = config.job_types[request.job_type]
    trials = _try_all(request, job, config.senders[job.sender])
    chosen = _choose(request, job, trials, config, ledger=ledger, now_us=now_us)
    reasons = {number: reason for number in trials if (reason := _reason(trials[number], chosen[number]))}
    lanes = {number: chosen[number].way.lane for number in trials if number not in reasons}  # type: ignore[union-attr]
    for number in _opted_out(ledger, lanes, chosen, config):
        reasons[number] = "opted_out"
    for number in _out_of_window(ledger, {n: chosen[n].sender for n, trial in trials.items() if trial.needs_window}):
        reasons.setdefault(number, "whatsapp_window")
    going = [number for number in trials if number not in reasons]
    leaves = _leaves_us(ledger, set(lanes.values()) or {job.sender}, request, now_us)
    leaves_us = min((at for at in leaves.values() if at is not None), default=None)
    delayed: dict[str, tuple[str, int]] = {}
    if job.has_rules:
        ends_us = max(now_us, request.send_at_us or 0) + request.valid_for_us
        delayed = _kept_back(ledger, request.job_type, going, now_us, leaves_us or request.send_at_us or now_us)
        reasons |= {number: reason for number, (reason, until_us) in delayed.items() if until_us >= ends_us}
        delayed = {number: row for number, row in delayed.items() if number not in reasons}
        leaves_us = _first(leaves_us, [n for n in going if n not in reasons], delayed, together=request.group)
    senders = {n: config.senders[chosen[n].sender or job.sender] for n in trials}
    counted = {n: segments for n in trials if (segments := trials[n].segments(senders[n])) is not None}
    costliest = max(counted, key=lambda n: _cost(counted[n]), default=None)
    longest = counted[costliest] if costliest else None
    encoding = None if longest is None else ("UCS-2" if longest.encoding == "UCS-2" else "GSM-7")
    going = [number for number in trials if number not in reasons]
    return {
        "encoding": encoding,
        "parts": 1 if longest is None else longest.parts,
        "part_texts": trials[costliest].parts(senders[costliest]) if costliest else [],
        "forces_ucs2": [] if longest is None else list(longest.forces_ucs2),
        "leaves_at": None if leaves_us is None else rfc3339(leaves_us),
        "senders": _senders(going[:1] if request.group else going, chosen),
        "route": steps_of(chosen[next(iter(trials))]) if job.routes and (len(trials) == 1 or request.group) else None,
        "filtered": [{"to": number, "reason": reasons[number]} for number in trials if number in reasons],
        "delayed": [
            {"to": number, "reason": reason, "leaves_at": rfc3339(until_us)}
            for number, (reason, until_us) in delayed.items()
        ],
    }


def _try_all(request: ValidRequest, job: JobType, sender: Sender) -> dict[str, _Trial]:
    """A trial for each recipient; those without variables of their own share one."""
    shared: _Trial | None = None
    trials: dict[str, _Trial] = {}
    for number, variables in request.recipients:
        if variables:
            try:
                trials[number] = _try(request, job, sender, variables)
            except RenderError:
                trials[number] = _Trial(Content(), reason="content")
            continue
        if shared is None:
            try:
                shared = _try(request, job, sender, None)
            except RenderError as wrong:
                raise invalid(FieldError(wrong.field, wrong.value, wrong.remedy)) from None
        trials[number] = shared
    return trials


def _try(request: ValidRequest, job: JobType, sender: Sender, variables: Mapping[str, Any] | None) -> _Trial:
    made = render_content(job, request.content, channel=sender.channel, variables=variables)
    content = Content(
        text=made.get("text"),
        media_urls=tuple(made.get("media_urls") or ()),
        subject=made.get("subject"),
        whatsapp=made.get("whatsapp"),
    )
    needs_window = is_free_form(content.whatsapp) and template_instead(job, request.content, variables) is None
    return _Trial(content, needs_window=needs_window)


def _choose(
    request: ValidRequest, job: JobType, trials: Mapping[str, _Trial], config: Config, *, ledger: Ledger, now_us: int
) -> dict[str, Chosen]:
    """The sender of each recipient, as expansion chooses it; a group has one."""
    group = ",".join(trials)
    people = [group] if request.group else list(trials)
    facts = read_facts(ledger, config, [(job, people)]) if job.routes else Facts(now_us)
    chooser = Chooser(job, config=config, facts=facts, at_us=request.send_at_us)

    def choose_for(to: str, trial: _Trial) -> Chosen:
        def way(name: str) -> Route | Refusal:
            if name not in trial.ways:
                trial.ways[name] = route(name, config.senders[name], trial.content, max_parts=job.max_parts)
            return trial.ways[name]

        return chooser.choose(to, way, whole=True)

    if request.group:
        return dict.fromkeys(trials, choose_for(group, next(iter(trials.values()))))
    return {number: choose_for(number, trial) for number, trial in trials.items()}


def _reason(trial: _Trial, chosen: Chosen) -> str:
    return trial.reason or (chosen.way.code if isinstance(chosen.way, Refusal) else "")


def _senders(going: Sequence[str], chosen: Mapping[str, Chosen]) -> list[dict[str, Any]]:
    counts = Counter(chosen[number].sender for number in going)
    return [{"sender": name, "messages": n} for name, n in sorted(counts.items())]


def _opted_out(ledger: Ledger, lanes: Mapping[str, str], chosen: Mapping[str, Chosen], config: Config) -> Iterator[str]:
    """Whom the scopes of their own lane stop; of a lane that is not published, those that it will have."""
    by_lane: dict[str, list[str]] = {}
    for number, lane in lanes.items():
        by_lane.setdefault(lane, []).append(number)
    scopes = {view.name: view.scopes for view in read_lanes(ledger, list(by_lane))}
    for lane, numbers in by_lane.items():
        sender = chosen[numbers[0]].sender
        profile = config.senders[sender].messaging_profile_id
        own = ("global", f"sender:{sender}", *([f"profile:{profile}"] if profile else []))
        yield from opted_out_among(ledger, numbers, scopes.get(lane, own))


def _out_of_window(ledger: Ledger, senders: Mapping[str, str]) -> list[str]:
    """Those who have not written to their sender within 24 hours."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        for number, sender in senders.items():
            pipe.exists(ledger.key(f"wa:{sender}:{number}"))
        found = pipe.execute() if senders else []
    return [number for number, is_open in zip(senders, found, strict=True) if not is_open]


def _kept_back(
    ledger: Ledger, job_type: str, numbers: Sequence[str], now_us: int, from_us: int
) -> dict[str, tuple[str, int]]:
    """Who must wait for what of the job type's rules, and until when; asked of the scripts that will decide it."""
    kept: dict[str, tuple[str, int]] = {}
    for start in range(0, len(numbers), NUMBERS_A_CALL):
        fields = ZoneFields(datetime.fromtimestamp(now_us / 1_000_000, UTC))
        people = [(number, fields.of([number])) for number in numbers[start : start + NUMBERS_A_CALL]]
        foreseen = ledger.run(calls.foresee(job_type, from_us, people, fields.tables))
        for (number, _), seen in zip(people, foreseen, strict=True):
            opens_us = NEVER_US if seen.opens_us is None else seen.opens_us
            until_us = max(opens_us, seen.free_us)
            if until_us > from_us:
                kept[number] = ("quiet_hours" if opens_us >= seen.free_us else "frequency", until_us)
    return kept


def _first(
    leaves_us: int | None, going: Sequence[str], delayed: Mapping[str, tuple[str, int]], *, together: bool
) -> int | None:
    """When the first message leaves; a group leaves as one, so with the last of its members."""
    if leaves_us is None or not going:
        return None
    times = [delayed[number][1] if number in delayed else leaves_us for number in going]
    return max(times) if together else min(times)


def _leaves_us(ledger: Ledger, lanes: Iterable[str], request: ValidRequest, now_us: int) -> dict[str, int | None]:
    """When the next message of each lane would leave; None where nothing leaves."""
    found: dict[str, int | None] = dict.fromkeys(lanes)
    for view in read_lanes(ledger, sorted(found)):
        if view.state in ("paused", "draining", "drained", "gone"):
            continue
        waits_us = now_us + view.wait_us(request.klass, now_us)
        found[view.name] = waits_us if request.send_at_us is None else request.send_at_us
    return found


def _cost(segments: Segments) -> tuple[int, int]:
    return segments.parts, segments.units
