"""List the benchmarks, or run one: ``python -m benchmarks [NAME] [its own options]``."""

from __future__ import annotations

import runpy
import sys

MODULES = {
    "pacing": ("benchmarks.pacing", "is the rate held, used and shared? real workers, a receiving server, a plot"),
    "receipts": ("benchmarks.receipts", "receipts verified and applied a second, and the webhook's p99 meanwhile"),
    "lookup": ("benchmarks.lookup", "milliseconds in which the API shows a notification of 100,000 recipients"),
    "cost": ("benchmarks.script_cost", "microseconds of Redis that a message takes in each script of its way"),
    "opt-outs": ("benchmarks.opt_outs", "a million opt-outs: memory, checks, import, the whole list"),
    "bytes": ("benchmarks.bytes_per_message", "bytes of Redis that a waiting message takes"),
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks NAME [options]; --help after the name shows its options\n")
        for name, (_, what) in MODULES.items():
            print(f"  {name:9} {what}")
        return 0
    if arguments[0] not in MODULES:
        print(f"there is no benchmark {arguments[0]!r}: use one of {', '.join(MODULES)}", file=sys.stderr)
        return 2
    module = MODULES[arguments[0]][0]
    sys.argv = [module, *arguments[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
