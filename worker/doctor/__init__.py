"""Check what breaks in production: settings, the Redis they point at, the account at Telnyx, the way of its webhooks.

The settings are checked whole at every start; here is what can be right in form and still do harm: limits that bound
nothing, a Redis that throws messages away when it is full, a number that is off its profile. One run looks at all of it,
so wrong settings do not hide a wrong account. Invariants, each with a test named after it:

- Every check that is not ok says what to do.
- An offline check talks to nobody but Redis, and fails on nothing there: a release is stopped by wrong settings alone.
- Nothing is changed anywhere, and no message is sent.
"""

from __future__ import annotations

from pathlib import Path

from worker.doctor.lint import examine_configuration, time_zones
from worker.doctor.report import Check, Report, softened
from worker.doctor.server import OWN_BYTES, SHARED_BYTES, examine_server
from worker.settings import Problem, Settings

__all__ = ["OWN_BYTES", "SHARED_BYTES", "Check", "Report", "examine"]


def examine(
    settings: Settings,
    problems: list[Problem] | None = None,
    *,
    offline: bool,
    countries: tuple[str, ...] = (),
    webhook: Path | None = None,
) -> Report:
    """Check ``settings`` and what they point at, as far as they could be read.

    Args:
        problems: What is wrong with the settings themselves.
        offline: Look at the configuration; at Redis only where it answers, and then for warnings.
        countries: Where messages go to, as ISO codes: each must be allowed by the profiles.
        webhook: A recorded webhook, to try the public key on.
    """
    checks = [Check("settings", "failed", f"{p.path} {p.what}{_got(p)}", p.remedy) for p in problems or []]
    if settings.loaded_config is not None:
        config = settings.config
        lanes = f"{len(config.senders)} senders, {len(config.job_types)} job types"
        if not problems:
            checks.append(Check("settings", "ok", f"{settings.config_path}: {lanes}"))
        checks += examine_configuration(config)
    checks.append(time_zones())
    redis_checks, is_away = examine_server(settings) if settings.redis_url else ([], False)
    if offline:
        redis_checks = [softened(check) for check in redis_checks]
        return Report(checks + redis_checks, misconfigured=bool(problems))
    from worker.doctor.account import examine_account
    from worker.doctor.webhooks import examine_webhooks

    account_checks, is_telnyx_away = examine_account(settings, countries)
    checks += [*redis_checks, *account_checks, *examine_webhooks(settings, webhook)]
    return Report(checks, is_away or is_telnyx_away, misconfigured=bool(problems))


def _got(problem: Problem) -> str:
    return "" if problem.got is None else f", got {problem.got}"
