#!/usr/bin/env python3
"""Measures the coordinator under load: `make bench-sched` builds what it needs and starts this.

    sched.py [--rounds N] [--only NAME] [--part N] [--quick]

Every measure of every round has a fresh release coordinator with a state folder of its own in .bench/, on a real disk. Workers
and clients are simulated in one other process (nettailor-load); both share this machine's cores. What is printed: each command
with what it found, where the coordinator's time went, and at the end a table with medians over the rounds and the worst
round's p99.
"""

import argparse
import collections
import datetime
import json
import math
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from programs import ROOT, machine

BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
# The system's /tmp may be memory, where a flush costs nothing.
FOLDER = ROOT / ".bench/sched"

# Of one measure: nettailor-load's arguments. Numbers of jobs can be divided by --part.
MEASURES = {
    "throughput": ["throughput", "--jobs", 5_000],
    "submit": ["submit", "--tasks", 50_000, "--singles", 300],
    "queues30": ["drain", "--jobs", 15_000, "--queues", 30],
    "queues1000": ["drain", "--jobs", 50_000, "--queues", 1_000],
    "progress": ["progress", "--workers", 1_000],
    "list": ["list", "--jobs", 12_500],
    "memory": ["memory", "--jobs", 2_000, "--workers", 1_000],
    "lost": ["lost", "--repetitions", 100],
    "restart": ["restart", "--jobs", 50_000, "--workers", 1_000],
    "warm": ["warm", "--mib", 64],
}
# The same, tiny: shows that everything runs.
QUICK = {
    "throughput": ["throughput", "--jobs", 50],
    "submit": ["submit", "--tasks", 100, "--singles", 5, "--workers", 10],
    "queues30": ["drain", "--jobs", 60, "--queues", 30],
    "queues1000": ["drain", "--jobs", 100, "--queues", 50],
    "progress": ["progress", "--seconds", 1, "--jobs", 20, "--workers", 4, "--rate", 500],
    "list": ["list", "--jobs", 1_500, "--repetitions", 3],
    "memory": ["memory", "--jobs", 20, "--workers", 10],
    "lost": ["lost", "--repetitions", 2, "--workers", 4],
    "restart": ["restart", "--jobs", 50, "--workers", 10],
    "warm": ["warm", "--mib", 1],
}

Row = collections.namedtuple("Row", "measure what unit better target value p99 beside")


def seconds_of_large(found):
    """Of the file with all tasks; for ever where it was refused."""
    first = found["files"][0]
    return first["seconds"] if first["refused"] is None else math.inf


ROWS = [
    Row("throughput", "no-op stages, 16 workers", "/s", "more", 5000, lambda f: f["stages_per_second"],
        lambda f: f["stage"]["p99_ms"], "HyperQueue < 0.1 ms per task; Nomad 1,500-3,750/s; Ray 569 tasks/s"),
    Row("submit", "50,000 tasks accepted in one file", "s", "less", 5,
        seconds_of_large, None, "SkyPilot 4 s per job"),
    Row("submit", "submit to dispatch, 1,000 workers, p99", "ms", "less", 20, lambda f: f["assigned"]["p99_ms"],
        lambda f: f["assigned"]["p99_ms"], "SkyPilot 4 s per job"),
    Row("queues30", "15,000 jobs in 30 queues, last admission", "s", "less", 10, lambda f: f["admission_seconds"], None,
        "Kueue 351 s, API-server writes included"),
    Row("queues1000", "50,000 jobs in 1,000 queues, last admission", "s", "less", 30, lambda f: f["admission_seconds"], None,
        "Kueue 1,179 s, API-server writes included"),
    Row("progress", "progress kept and streamed, 1,000 workers", "/s", "more", 5000, lambda f: f["most"]["arrived_per_second"],
        lambda f: f["most"]["latency"]["p99_ms"], "Ray Tune 50-500/s"),
    Row("progress", "the same at 5,000/s offered, p99", "ms", "less", 50, lambda f: f["paced"]["latency"]["p99_ms"],
        lambda f: f["paced"]["latency"]["p99_ms"], ""),
    Row("list", "first page of 12,500 jobs", "s", "less", 0.1, lambda f: f["first_page"]["p50_ms"] / 1e3,
        lambda f: f["first_page"]["p99_ms"], "SkyPilot's gate 10-30 s"),
    Row("list", "all 12,500 jobs", "s", "less", 0.5, lambda f: f["all_pages"]["p50_ms"] / 1e3,
        lambda f: f["all_pages"]["p99_ms"], "SkyPilot's gate 10-30 s"),
    Row("memory", "resident, 2,000 running jobs, 1,000 workers", "MB", "less", 200, lambda f: f["running_mb"], None,
        "SkyPilot about 18 MiB per job"),
    Row("lost", "SIGKILL of a worker to re-dispatch, p99", "s", "less", 1, lambda f: f["reassigned"]["p99_ms"] / 1e3,
        lambda f: f["reassigned"]["p99_ms"], "Ballista 195 s, HyperQueue 8 s, torchft 5 s"),
    Row("restart", "SIGKILL of the coordinator to all re-attached", "s", "less", 5, lambda f: f["attached_seconds"], None,
        "HyperQueue loses running work's last seconds"),
    Row("restart", "running stages lost by that", "", "less", 0, lambda f: f["lost"], None, ""),
    Row("warm", "second job on a warm node, fetched", "B", "less", 0, lambda f: f["fetched_bytes"], None, ""),
    Row("warm", "assignment to the trainer's start there", "ms", "less", 50, lambda f: f["warm_ms"], lambda f: f["warm_ms"], ""),
]


class Coordinator:
    """A process on a state folder of its own."""

    def __init__(self, state, log="info"):
        self.state, self.log = state, log
        self.ports = [free_port(), free_port()]
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.start()

    def start(self):
        listen, http = (f"127.0.0.1:{port}" for port in self.ports)
        with open(self.state / "log", "a") as log:
            self.process = subprocess.Popen([BINARIES / "nettailor-coordinator", "--listen", listen, "--http", http,
                                             "--state", self.state, "--log", self.log], stderr=log)

    def wait(self):
        """Until it serves."""
        while True:
            if self.process.poll() is not None:
                sys.exit(f"the coordinator ended: see {self.state / 'log'}")
            try:
                return socket.create_connection(("127.0.0.1", self.ports[0])).close()
            except OSError:
                time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def spent(self):
        """Seconds of CPU by thread, what its driver waited while others had the cores, MB handed to the disk, and memory."""
        seconds, waited = collections.Counter(), 0.0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                on_core, ready, _ = map(int, (task / "schedstat").read_text().split())
                name = (task / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            seconds[name.rstrip("0123456789")] += on_core / 1e9
            waited += ready / 1e9 if name == "driver" else 0
        # What settles the memtable is a thread for a moment.
        ticks = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        seconds["ended"] += max(0, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") - sum(seconds.values()))
        for line in pathlib.Path(f"/proc/{self.process.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                written = int(line.split()[1]) / 1e6
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM:"))
        threads = ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.most_common() if spent >= 0.1)
        disk = sum(path.stat().st_size for path in (self.state / "db").rglob("*") if path.is_file()) / 1e6
        return f"coordinator {sum(seconds.values()):.1f} s of CPU ({threads}), its driver waited {waited:.1f} s for a core,"\
               f" {written:.0f} MB written, db {disk:.0f} MB, at most {peak:.0f} MB resident"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def flush_alone(count=60):
    """Milliseconds of an fdatasync after 4 KiB, median and longest: what every durable answer costs at least."""
    times = []
    with tempfile.TemporaryFile(dir=FOLDER) as file:
        for _ in range(count):
            file.write(os.urandom(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times), max(times)


class Agent:
    """A real agent whose trainer notes when it starts, and refuses the task."""

    def __init__(self, coordinator):
        self.coordinator = coordinator
        self.cache = coordinator.state / "cache"
        self.starts = coordinator.state / "starts"
        trainer = coordinator.state / "trainer"
        failed = {"event": "failed", "class": "input", "message": "as the benchmark wants"}
        trainer.write_text(f"#!/bin/sh\ndate +%s%N >>{self.starts}\necho '{json.dumps(failed)}'\n")
        trainer.chmod(0o755)
        with open(coordinator.state / "agent.log", "w") as log:
            self.process = subprocess.Popen([BINARIES / "nettailor-worker", "--coordinator", coordinator.url, "--name", "agent",
                                             "--cache", self.cache, "--trainer", trainer], stderr=log)
        self.before = 0

    def cached(self):
        return sum(path.stat().st_size for path in self.cache.rglob("*") if path.is_file())

    def found(self):
        """Of the second job."""
        fetched = self.cached() - self.before
        self.process.kill()
        self.process.wait()
        starts = [int(line) / 1e6 for line in self.starts.read_text().split()]
        lines = (self.coordinator.state / "log").read_text().splitlines()
        assigned = [1e3 * datetime.datetime.fromisoformat(line.split()[0]).timestamp() for line in lines if " assigning " in line]
        cold, warm = (start - at for start, at in zip(starts, assigned, strict=True))
        return {"cold_bytes": self.before, "fetched_bytes": fetched, "cold_ms": round(cold, 1), "warm_ms": round(warm, 1)}


def measure(arguments):
    """One measure with a coordinator of its own."""
    state = pathlib.Path(tempfile.mkdtemp(dir=FOLDER))
    # When something is assigned, is said to those who ask for details.
    coordinator = Coordinator(state, "debug" if arguments[0] == "warm" else "info")
    try:
        coordinator.wait()
        agent = Agent(coordinator) if arguments[0] == "warm" else None
        if arguments[0] == "memory":
            arguments = [*arguments, "--coordinator-pid", coordinator.process.pid]
        arguments = [str(argument) for argument in arguments]
        print("    nettailor-load", *arguments, flush=True)
        command = [BINARIES / "nettailor-load", "--coordinator", coordinator.url, *arguments]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        before, found = "", None
        for line in load.stdout:
            if line == "kill\n":
                before = f"before the kill {coordinator.spent()}; after it "
                coordinator.kill()
                coordinator.start()
            elif line == "warm\n":
                agent.before = agent.cached()
            else:
                found = json.loads(line)
        _, status, used = os.wait4(load.pid, 0)
        load.returncode = os.waitstatus_to_exitcode(status)
        if load.returncode != 0 or found is None:
            sys.exit(f"nettailor-load failed; what the coordinator said is in {state}")
        if agent:
            found |= agent.found()
        print(f"        {json.dumps(found)}\n        {before}{coordinator.spent()};"
              f" load simulator {used.ru_utime + used.ru_stime:.1f} s; the machine's load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        coordinator.kill()
    shutil.rmtree(state)
    return found


def table(found):
    """Markdown: target, median of the rounds, worst p99."""
    print("\n| | target | median | worst p99, ms | beside |\n|---|---:|---:|---:|---|")
    for row in ROWS:
        rounds = found.get(row.measure)
        if not rounds:
            continue
        median = statistics.median(map(row.value, rounds))
        met = median >= row.target if row.better == "more" else median <= row.target
        sign = "≥" if row.better == "more" else "≤"
        worst = f"{max(map(row.p99, rounds)):,.1f}" if row.p99 else ""
        unit = "/s" if row.unit == "/s" else f" {row.unit}".rstrip()
        digits = ",.0f" if row.unit in ("/s", "MB", "") else ",.3g" if median < 1000 else ",.0f"
        shown = "refused" if median == math.inf else f"{median:{digits}}{unit}" + ("" if met else " (missed)")
        print(f"| {row.what} | {sign} {row.target:,}{unit} | {shown} | {worst} | {row.beside} |")
    for file in (file for round in found.get("submit", []) for file in round["files"]):
        said = file["refused"] or f"answered with {file['answer_bytes'] / 1e6:.1f} MB"
        print(f"\n{file['tasks']:,} tasks in one file, {file['request_bytes'] / 1e6:.1f} MB, {file['seconds']} s: {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MEASURES, nargs="+", metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--part", type=int, default=1, help="one N-th of the jobs and tasks, on slow machines")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: shows that everything runs")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine()
    print("fdatasync alone: median {:.1f} ms, longest {:.1f} ms of 60".format(*flush_alone()))
    measures = QUICK if arguments.quick else MEASURES
    found = collections.defaultdict(list)
    for round in range(1 if arguments.quick else arguments.rounds):
        for name, options in measures.items():
            if arguments.only and name not in arguments.only:
                continue
            print(f"\nround {round + 1}, {name}", flush=True)
            parts = [option // arguments.part if before in ("--jobs", "--tasks") else option
                     for before, option in zip([None, *options], options)]
            found[name].append(measure(parts))
    if arguments.quick or arguments.part > 1:
        print("\nNot in the sizes that the table names:")
    table(found)


main()
