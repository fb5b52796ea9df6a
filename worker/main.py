"""What `dramatiq` loads in each worker process: settings, logging, the broker with its actors.

Imported after the fork, never by the master, so that each process has an identity of its own. Importing it connects to
nothing; Dramatiq's life cycle does, before the first job.
"""

from worker.engine.shutdown import drop_repeated_signals

drop_repeated_signals()  # before the slower imports: a second SIGTERM during them would end this process with 1

import sys  # noqa: E402

from worker.engine.runtime import Runtime  # noqa: E402
from worker.engine.spool import spool  # noqa: E402
from worker.log import configure_logging  # noqa: E402
from worker.settings import load_settings  # noqa: E402

# Jobs that burn CPU (expansion) hold the interpreter for 5 ms at a time by default; a slot is late after ten.
sys.setswitchinterval(0.0005)

_settings = load_settings("worker")
configure_logging(_settings.log_level, json=not sys.stderr.isatty())
spool.start()
runtime = Runtime(_settings)
broker = runtime.broker
