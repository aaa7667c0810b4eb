"""Programs that are compared: each a process of its own that answers numbers of repetitions with seconds. They take turns
within one round, so that whatever else the machine does meets all of them; a ratio is the median of the rounds' ratios."""

import datetime
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The GPU bundle has its programs elsewhere, and no virtual environment.
OURS = pathlib.Path(
    os.environ.get("BENCH_TRAIN")
    or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples/bench_train"
)
VENV = ROOT / ".bench/venv/bin/python"
PYTHON = [VENV if VENV.exists() else sys.executable, "-W", "ignore"]
EAGER = [*PYTHON, HERE / "eager.py"]


class Program:
    """One of them."""

    def __init__(self, *command, **environment):
        command = [str(part) for part in command]
        shown = [pathlib.Path(part).name if "/" in part else part for part in command]
        print("   ", " ".join(shown), flush=True)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **environment})
        ready = self.process.stdout.readline().split()
        if not ready:
            sys.exit(f"{' '.join(command)} did not start")
        self.about = int(ready[1]) if len(ready) > 1 else 0
        self.times = []

    def run(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        self.times.append(float(self.process.stdout.readline()) / count)

    def end(self):
        self.process.stdin.close()
        self.peak = float(self.process.stdout.read())
        self.process.wait()

    @property
    def milliseconds(self):
        return 1e3 * statistics.median(self.times)


def compare(programs, rounds, count):
    """Lets the programs take turns; the first is the one that the others are compared with."""
    for _ in range(rounds):
        for program in programs:
            program.run(count)
    for program in programs:
        program.end()
    first = programs[0]
    return [statistics.median(a / b for a, b in zip(first.times, program.times)) for program in programs]


def of_processor(key):
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith(key)), "unknown")


def vector_sets():
    """The instruction sets that matter here."""
    flags = set(of_processor("flags").split())
    return [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]


def machine():
    print(f"{datetime.date.today()}, {os.cpu_count()} cores of {of_processor('model name')}: {' '.join(vector_sets())};"
          f" load before {os.getloadavg()[0]:.1f}, priority {os.nice(0)}")
