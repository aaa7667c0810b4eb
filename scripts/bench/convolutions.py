#!/usr/bin/env python3
"""What the machine's convolutions reach in fp32 and bf16: the bound on what `precision: bf16` can gain.

    convolutions.py THREADS

3x3 convolutions of resnet34 at 224 px, batch 32, channels-last; the median of nine passes.
"""

import statistics
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
for channels, side in ((64, 56), (128, 28), (256, 14), (512, 7)):
    flops = 2 * 9 * 32 * side**2 * channels**2
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(32, channels, side, side).to(dtype, memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
        times = []
        for _ in range(11):
            start = time.perf_counter()
            torch.conv2d(x, w, padding=1)
            times.append(time.perf_counter() - start)
        rates.append(flops / statistics.median(times[2:]) / 1e9)
    print(f"    {channels:4} channels, side {side:2}: fp32 {rates[0]:5.0f} GFLOP/s, bf16 {rates[1]:5.0f}: {rates[1] / rates[0]:.2f}x")
