#!/usr/bin/env python3
"""Runs a command and says how much memory it and its children took at most, shared pages counted once (PSS).

    scripts/peak_memory.py make demo
"""

import pathlib
import subprocess
import sys
import time


def descendants(root: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found = [root]
    for pid in found:
        for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                pass  # the thread has ended
    return found


def proportional_kib(pid: int) -> int:
    """Memory of one process, its part of shared pages included; 0 once it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    command = subprocess.Popen(sys.argv[1:])
    peak = 0
    while command.poll() is None:
        peak = max(peak, sum(map(proportional_kib, descendants(command.pid))))
        time.sleep(0.5)
    print(f"peak memory of all processes: {peak / 2**20:.2f} GiB", file=sys.stderr)
    return command.returncode


sys.exit(main())
