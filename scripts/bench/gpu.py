#!/usr/bin/env python3
"""Steps of training on a GPU, ours beside a plain PyTorch program; a part of the GPU bundle.

    gpu.py [--rounds N] [--quick]

`--quick` takes small batches and images, once: it shows that all the programs run.
"""

import argparse
import os

from programs import EAGER, OURS, Program, compare, machine

# Convolutions in tf32 are what libraries do unless they are told not to.
SINGLE = {"NVIDIA_TF32_OVERRIDE": "0"}
PRECISIONS = [("fp32", "fp32", SINGLE), ("tf32", "fp32", {}), ("bf16", "bf16", {})]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds, count = (1, 1) if arguments.quick else (arguments.rounds, 10)
    side, batches = (32, (4,)) if arguments.quick else (224, (32, 256))
    threads = os.cpu_count()
    machine()
    for who in ("teacher", "student"):
        for batch in batches:
            print(f"\n{who}'s step, resnet34, {side} px, batch {batch}")
            print(f"    {'':6}{'eager images/s':>16}{'ours images/s':>16}{'speed-up':>10}")
            for name, precision, environment in PRECISIONS:
                programs = [
                    Program(*EAGER, who, side, batch, threads, name, **environment),
                    Program(OURS, "step", who, side, batch, threads, precision, **environment),
                ]
                ratio = compare(programs, rounds, count)[1]
                eager, ours = (1e3 * batch / program.milliseconds for program in programs)
                print(f"    {name:6}{eager:16.0f}{ours:16.0f}{ratio:9.2f}x", flush=True)


main()
