"""The command ``notify``: one name for every process and every tool of the service.

Exit codes: 0 done, 1 no (not found, a failed check), 2 usage or configuration, 3 Redis or Telnyx unreachable. A problem is
one readable message, never a traceback. Processes end with 0 on SIGTERM at any instant, so before anything slow is
imported here, an early SIGTERM already means a clean end; each process then sets its own handler.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

PROCESSES = frozenset({"web", "worker", "clock", "sandbox"})


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in PROCESSES:
        signal.signal(signal.SIGTERM, _end_before_start)
    code = _run(arguments)
    if arguments and arguments[0] in PROCESSES:
        # Python puts the deadly default back while it shuts down: a signal that comes again must not change the exit code
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def _end_before_start(_signal: int, _frame: object) -> None:
    os._exit(0)  # nothing has been started, so there is nothing to end


def _run(arguments: list[str]) -> int:
    try:
        from worker.commands.app import make_app
        from worker.commands.failures import as_failure
        from worker.terminal import Failure, show_failure
    except ModuleNotFoundError as missing:
        return _without_extras(missing)
    try:
        made = make_app()(args=arguments, prog_name="notify", standalone_mode=True)
    except SystemExit as leaving:
        return _code_of(leaving)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as `notify … | head` does: nobody reads on
        return 0
    except Exception as error:  # noqa: BLE001  # the edge of the process
        failure = error if isinstance(error, Failure) else as_failure(error)
        show_failure(failure, as_json="--json" in arguments)
        return int(failure.code)
    return made if isinstance(made, int) else 0


def _without_extras(missing: ModuleNotFoundError) -> int:
    """What an app that only enqueues has installed is enough for ``producers``, and not for this command."""
    if (missing.name or "worker").split(".")[0] in {"worker", "producers"}:
        raise missing  # a part of ours is gone: no extra brings it back
    print(
        f"notify: the package `{missing.name}` is missing, for only what apps need to enqueue is installed: "
        "pip install 'notification-worker[worker,web]' for the service, or 'notification-worker[demo]' to try it",
        file=sys.stderr,
    )
    return 2


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1


if __name__ == "__main__":
    main()
