"""What a full run writes of people: no text, and no number in full, in the log of any process or a command's output."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from service_kit import NOTIFY, Service, running_service, wait_until

from producers import InvalidNotification
from worker.sandbox.recipients import magic_number

pytestmark = pytest.mark.slow

WORDS = "Xylophone quorum"  # in each text that goes out or comes in
FATES = (40, 43, 44, 50, 51, 58, 71, 74, 75, 77, 80)  # failures, refusals, opt-outs, cuts, repeats: what is logged most


def run(service: Service, *arguments: str) -> str:
    """The output of a command of ``notify``."""
    done = subprocess.run(
        [NOTIFY, *arguments],
        check=False,
        env=service.environ,
        cwd=service.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def kept(service: Service, stream: str) -> int:
    redis: Any = service.ledger.redis
    return int(redis.xlen(service.ledger.key(stream)))


def test_no_text_and_no_full_number_reaches_any_output(tmp_path: Path, redis_url: str) -> None:
    with running_service(tmp_path, redis_url) as service:
        service.environ["LOG_LEVEL"] = "debug"
        service.start_web()
        service.start_worker()
        service.start("clock")
        people = ["+13125552001", "+13125552002", *(magic_number(fate, 9) for fate in FATES)]
        ids = [service.notifier.enqueue("notice", to=to, text=f"{WORDS} {to}").id for to in people]
        ids.append(service.notifier.enqueue("notice", to=people[:2], text=WORDS).id)
        status, made = service.call("POST", "/v1/notifications", {"job_type": "notice", "to": people[0], "text": WORDS})
        assert status == 202
        ids.append(made["id"])
        bad = {"job_type": "notice", "to": f"{people[0]}0000000", "text": WORDS, "template": WORDS}
        assert service.call("POST", "/v1/notifications", bad)[0] == 422
        assert service.call("PUT", f"/v1/opt-outs/%2B{people[1][1:]}")[0] == 204
        with pytest.raises(InvalidNotification) as refused:
            service.notifier.enqueue("notice", to="+1312", text=WORDS)
        service.sandbox("inbound", {"from": people[1], "to": "+13125550001", "text": f"{WORDS} STOP"})
        wait_until(lambda: kept(service, "in") >= 1, what="the inbound message to be kept")
        service.wait_final(*ids, timeout_s=90)
        outputs = {
            "send": run(service, "send", "notice", "--to", people[0], "--text", WORDS),
            "refused": run(service, "send", "notice", "--to", f"{people[0]}0000000", "--text", WORDS),
            "doctor": run(service, "doctor"),
            "lanes": run(service, "lanes"),
            "error": str(refused.value),
        }
        for child in service.children:
            child.kill()
        outputs |= {log.name: log.read_text() for log in tmp_path.glob("*.log")}
    assert {"web0.log", "worker1.log", "clock2.log"} <= set(outputs)
    assert "message_accepted" in outputs["worker1.log"], "debug logs were written at all"
    secrets = [WORDS, WORDS.split(maxsplit=1)[0], *(to.lstrip("+") for to in people)]
    leaks = {
        (name, line.strip()[:300])
        for name, text in outputs.items()
        for line in text.splitlines()
        if any(secret in line for secret in secrets)
    }
    assert not leaks
