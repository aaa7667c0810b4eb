#!/usr/bin/env python3
"""Runs the training benchmarks and prints ratios: `make bench-train` builds what they need and starts this.

    train.py [--rounds N] [--threads N] [--only convolution|step|forward|input]
"""

import argparse
import statistics
import subprocess

from programs import EAGER, HERE, OURS, PYTHON, ROOT, Program, compare, machine, vector_sets

BATCH = 32


def convolutions(_rounds, threads):
    print(f"\nconvolutions of this machine, {threads} threads", flush=True)
    subprocess.run([*PYTHON, HERE / "convolutions.py", str(threads)], check=True)


def steps(rounds, threads):
    for side, count in ((64, 3), (224, 1)):
        print(f"\nstudent's step, resnet34, {side} px, batch {BATCH}, {threads} threads")
        # Without the instructions bf16 takes a hundred times longer: nothing to be compared.
        precisions = ["fp32", "bf16"] if "avx512_bf16" in vector_sets() else ["fp32"]
        if "bf16" not in precisions:
            print("    bf16 is left out: this processor has no instructions for it")
        names = ["eager fp32", *(f"ours {precision}" for precision in precisions)]
        programs = [Program(*EAGER, "student", side, BATCH, threads, "fp32")]
        programs += [Program(OURS, "step", "student", side, BATCH, threads, precision) for precision in precisions]
        ratios = compare(programs, rounds, count)
        print(f"    {'':12}{'ms/step':>10}{'images/s':>10}{'speed-up':>10}{'peak MiB':>10}{'memory':>8}")
        for name, program, ratio in zip(names, programs, ratios):
            ms, memory = program.milliseconds, program.peak / programs[0].peak
            print(f"    {name:12}{ms:10.0f}{1e3 * BATCH / ms:10.1f}{ratio:9.2f}x{program.peak:10.0f}{memory:8.0%}")


def forwards(rounds, threads):
    for arch in ("resnet34", "lite0"):
        for side in (64, 224):
            print(f"\ndeployed, {arch}, 5 of 16 main blocks kept, {side} px, batch {BATCH}, {threads} threads")
            programs = [Program(OURS, "forward", form, arch, side, BATCH, threads) for form in ("whole", "tailored")]
            speed_up = compare(programs, rounds, 10 if side == 64 else 2)[1]
            flops = programs[0].about / programs[1].about
            whole, tailored = (program.milliseconds for program in programs)
            print(f"    whole {whole:.1f} ms, tailored {tailored:.1f} ms: {speed_up:.2f}x; FLOPs {flops:.2f}x;"
                  f" reached {speed_up / flops:.0%}")


def inputs(rounds, threads):
    side = 64
    print(f"\ninput pipeline, 4,000 PNGs of {side} px, crops and flips, batch {BATCH}, after the first epoch")
    folder = ROOT / ".bench/input"
    folder.mkdir(parents=True, exist_ok=True)
    epoch = Program(OURS, "input", side, BATCH, threads, folder)
    step = Program(OURS, "step", "student", side, BATCH, threads, "fp32")
    for _ in range(rounds):
        epoch.run(1)
        step.run(3)
    epoch.end()
    step.end()
    share = statistics.median(a / epoch.about / b for a, b in zip(epoch.times, step.times))
    print(f"    an epoch's {epoch.about} batches {epoch.milliseconds:.0f} ms, a batch {epoch.milliseconds / epoch.about:.2f} ms,"
          f" a step {step.milliseconds:.0f} ms: {share:.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("convolution", "step", "forward", "input"))
    arguments = parser.parse_args()
    machine()
    parts = (("convolution", convolutions), ("step", steps), ("forward", forwards), ("input", inputs))
    for name, part in parts:
        if arguments.only in (None, name):
            part(arguments.rounds, arguments.threads)


main()
