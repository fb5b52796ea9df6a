"""The master of a worker tree in benchmarks: as ``worker.engine.master``, on ``benchmarks.bench_worker``."""

from __future__ import annotations

import sys

from worker.engine import master

if __name__ == "__main__":
    master.BROKER = "benchmarks.bench_worker:broker"
    sys.exit(master.main(sys.argv[1:]))
