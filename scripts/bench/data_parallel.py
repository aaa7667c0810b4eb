#!/usr/bin/env python3
"""What it costs to share a batch out to processes: `make bench-dp` builds what this needs and starts it.

The teacher's step of resnet34, one batch: by one process with all threads, by a gang of ranks with its share of threads
each, and by as many processes that compute the same parts and tell each other nothing. What the gang takes longer than
those is communication: copying, sending, and waiting for each other.

    data_parallel.py [--rounds N] [--ranks N] [--side PIXELS] [--batch IMAGES]
"""

import argparse
import os
import statistics

from programs import OURS, Program, compare, machine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    ranks, side, batch = arguments.ranks, arguments.side, arguments.batch
    threads = max(1, os.cpu_count() // ranks)
    cores = threads * ranks
    machine()
    print(f"\nteacher's step, resnet34, {side} px, batch {batch} over all ranks")
    one = {"OMP_NUM_THREADS": str(cores)}
    each = {"OMP_NUM_THREADS": str(threads)}
    programs = [
        Program(OURS, "step", "teacher", side, batch, cores, "fp32", **one),
        Program(OURS, "ranks", "gang", ranks, side, batch, threads, **each),
        Program(OURS, "ranks", "apart", ranks, side, batch, threads, **each),
    ]
    ratios = compare(programs, arguments.rounds, 2)
    names = [f"1 process of {cores} threads", f"gang of {ranks} x {threads}", f"{ranks} x {threads} apart"]
    print(f"    {'':24}{'ms/step':>10}{'images/s':>10}{'against the first':>20}")
    for name, program, ratio in zip(names, programs, ratios):
        ms = program.milliseconds
        print(f"    {name:24}{ms:10.0f}{1e3 * batch / ms:10.1f}{ratio:19.2f}x")
    gang, apart = programs[1:]
    share = statistics.median(1 - b / a for a, b in zip(gang.times, apart.times))
    print(f"    communication: {share:.0%} of the gang's step")


main()
