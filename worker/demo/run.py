"""Run the demo from the first process to the exit code."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from worker.demo.audience import Audience
from worker.demo.day import Day, due, script
from worker.demo.progress import Progress
from worker.demo.report import Evidence, Report, make_report
from worker.demo.show import show
from worker.demo.stage import CLIENT, CONFIG, NAMESPACE, Stage, StageError
from worker.embedded import NoServerError
from worker.terminal import Exit, print_json

LONGEST_S = 75.0  # about 25 s on an idle machine; what is not final then has failed the check
TICK_S = 0.05


def run(*, keep: bool, as_json: bool) -> int:
    """The exit code: 0 only if every message is final and nobody was texted twice."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    audience = Audience(as_json=as_json)
    stage: Stage | None = None
    try:
        stage = Stage(audience.say)
        with stage:
            report = _perform(stage, audience, keep=keep)
            if as_json:
                print_json(report.as_dict())
            else:
                show(report)
            stage.keep_logs = not report.ok
            if keep:
                _stay(stage)
        code = Exit.DONE if report.ok else Exit.NO
    except (StageError, NoServerError) as error:
        print(f"notify: the demo could not start: {error}", file=sys.stderr)
        code = Exit.NO
    except KeyboardInterrupt:
        audience.end()
        print("interrupted; nothing is left running", file=sys.stderr)
        code = Exit.NO
    if stage is not None and stage.keep_logs:
        print(f"the logs of all processes are in {stage.directory}", file=sys.stderr)
    return int(code)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _perform(stage: Stage, audience: Audience, *, keep: bool) -> Report:
    from producers.notifier import Notifier
    from worker.settings import load_config

    config = load_config(CONFIG)
    notifier = Notifier(stage.server.url, client=CLIENT, namespace=NAMESPACE)
    channels = {name: config.senders[job.sender].channel for name, job in config.job_types.items()}
    progress = Progress(channels)
    day = Day(stage=stage, notifier=notifier, say=audience.say)
    started = time.monotonic()
    _play(day, progress, audience, started)
    took_s = time.monotonic() - started
    audience.end()
    answers = {fed.id: _answer(notifier, config, fed.id) for fed in day.fed}
    evidence: dict[str, Any] = {
        "fed": day.fed,
        "answers": answers,
        "arrivals": [tuple(row) for row in stage.sandbox.get("/sandbox/arrivals?all=1")],
        "summary": stage.sandbox.get("/sandbox/summary"),
        "senders": {name: (sender.channel, _per_s(sender.rate)) for name, sender in config.senders.items()},
        "sender_of": {name: job.sender for name, job in config.job_types.items()},
        "refused": day.refused,
        "problems": day.problems,
        "in_hands": day.in_hands,
        "took_s": took_s,
    }
    notifier.ledger.redis.close()
    codes = {} if keep else stage.stop()
    return make_report(Evidence(**evidence, exit_codes=codes))


def _play(day: Day, progress: Progress, audience: Audience, started: float) -> None:
    """Let each act have its time, and wait until all is final or the day is too long."""
    acts = script()
    while (age_s := time.monotonic() - started) < LONGEST_S:
        for act in due(acts, age_s):
            act.run(day)
        progress.expect(day.fed)
        progress.hear(day.notifier.events(after=progress.cursor))
        audience.show(progress)
        if not acts and progress.final >= progress.messages:
            return
        time.sleep(TICK_S)
    audience.say(f"after {LONGEST_S:g} s only {progress.final} of {progress.messages} messages are final")


def _answer(notifier: Any, config: Any, id: str) -> dict[str, Any]:
    """What the API says of a notification, with all its messages."""
    from producers.ledger.reading import read_notification
    from worker.web import presenting

    view = read_notification(notifier.ledger, id, limit=1000)
    return {"messages": []} if view is None else presenting.notification(view, config)


def _per_s(rate: Any) -> float:
    per_s: float = rate.units * 1_000_000 / rate.per_us
    return per_s


def _stay(stage: Stage) -> None:
    """Leave everything running until Ctrl-C, which then is the normal end."""
    lines = [
        "\nEverything goes on running, until Ctrl-C:",
        f"  what the sandbox received   {stage.sandbox.url}/",
        f"  the HTTP API                {stage.web.url}/openapi.json",
        f"  its key                     Authorization: Bearer {stage.api_key}",
        f"  the command line            export REDIS_URL={stage.server.url} NOTIFY_CONFIG={CONFIG}",
        f"                              export NOTIFY_NAMESPACE={NAMESPACE} NOTIFY_CLIENT={CLIENT}; notify lanes",
        f"  logs                        {stage.directory}",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print("ending", file=sys.stderr)
