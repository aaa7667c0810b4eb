#!/usr/bin/env python3
"""The student's or the teacher's step as a plain PyTorch eager program: what `bench_train` is compared with.

Written from docs/method.md (sections 2, 4 and 5) the way one writes it first: one autograd graph, the teacher in
evaluation mode, and for the hints every layer evaluated a second time on detached inputs. Weights are random; shapes are
those of resnet34 with K = 3 and 10 classes.

    eager.py teacher|student SIDE BATCH THREADS fp32|tf32|bf16

It computes on a GPU where torch finds one; tf32 is single precision on a CPU. Reads numbers of steps from standard input,
one a line, and answers each with the seconds those steps took. At the end of the input it prints its peak resident memory
in MiB.
"""

import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

STAGES = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]  # channels, blocks, stride of the first
CLASSES, SKIP, GAMMA1, GAMMA2 = 10, 3, 0.3, 10.0


class Basic(nn.Module):
    def __init__(self, c_in, c, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)
        self.down = None
        if stride > 1 or c_in != c:
            self.down = nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return y + (x if self.down is None else self.down(x))


class Proxy(nn.Module):
    def __init__(self, c_in, c, ratio):
        super().__init__()
        self.pool = nn.MaxPool2d(ratio + 1, ratio, ratio // 2) if ratio > 1 else nn.Identity()
        self.conv = nn.Conv2d(c_in, c, 1, bias=False)
        self.bn = nn.BatchNorm2d(c)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x):
        return self.bn(self.conv(self.pool(x)))


def blocks():
    """Input channels, channels and stride of every universal block."""
    before = 64
    for channels, count, stride in STAGES:
        for index in range(count):
            yield before, channels, stride if index == 0 else 1
            before = channels


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.ModuleList(Basic(*shape) for shape in blocks())
        self.classifier = nn.Linear(512, CLASSES)

    def head(self, x):
        return self.classifier(x.mean((2, 3)))


class Teacher(Backbone):
    def forward(self, images):
        nodes = [self.stem(images)]
        for block in self.blocks:
            nodes.append(F.relu(block(nodes[-1])))
        return nodes, self.head(nodes[-1])

    def step(self, images, labels):
        _, logits = self(images)
        return F.cross_entropy(logits, labels)


class Student(Backbone):
    def __init__(self):
        super().__init__()
        shapes = list(blocks())
        channels = [64] + [c for _, c, _ in shapes]
        depth = [1]
        for _, _, stride in shapes:
            depth.append(depth[-1] * stride)
        self.sources = [list(range(l - 1, max(-1, l - SKIP - 1), -1)) for l in range(1, len(shapes) + 1)]
        self.proxies = nn.ModuleList(
            nn.ModuleList(Proxy(channels[s], channels[l], depth[l] // depth[s]) for s in sources)
            for l, sources in enumerate(self.sources, 1)
        )
        self.scores = nn.ParameterList(torch.tensor([2.0] + [-2.0] * len(s)) for s in self.sources)
        for parameter in [*self.stem.parameters(), *self.blocks.parameters()]:
            parameter.requires_grad_(False)

    def layer(self, l, nodes):
        """Node l from the nodes before it."""
        attention = self.scores[l - 1].softmax(0)
        x = attention[0] * self.blocks[l - 1](nodes[l - 1])
        for weight, source, proxy in zip(attention[1:], self.sources[l - 1], self.proxies[l - 1]):
            x = x + weight * proxy(nodes[source])
        return F.relu(x)

    def forward(self, images):
        nodes, local = [self.stem(images)], []
        for l in range(1, len(self.blocks) + 1):
            nodes.append(self.layer(l, nodes))
            local.append(self.layer(l, [x.detach() for x in nodes]))
        return nodes, local, self.head(nodes[-1])

    def expected_complexity(self, costs):
        """METHOD section 4, product form."""
        layers = len(self.scores)
        attention = [s.softmax(0) for s in self.scores]
        out = [torch.ones((), device=attention[0].device) for _ in range(layers + 1)]
        for l, sources in enumerate(self.sources, 1):
            for b, s in enumerate([l - 1, *sources]):
                out[s] = out[s] * (1 - attention[l - 1][b])
        out[layers] = torch.zeros_like(out[0])
        into = [torch.zeros_like(out[0])] + [(1 - a).prod() for a in attention]
        total = torch.zeros_like(out[0])
        for l, sources in enumerate(self.sources, 1):
            for b, s in enumerate([l - 1, *sources]):
                total = total + costs[l - 1][b] * attention[l - 1][b] * (1 - into[s]) * (1 - out[l])
        return total


def learning(student, device):
    """The student with its teacher: parameters to train, and the loss of a batch."""
    teacher = Teacher().eval().to(device)
    costs = [[1.0 / 16] + [0.01] * len(s) for s in student.sources]
    parameters = [
        {"params": [p for n, p in student.named_parameters() if p.requires_grad and "scores" not in n]},
        {"params": list(student.scores), "weight_decay": 0.0},
    ]

    def loss(images, labels):
        with torch.no_grad():
            taught, target = teacher(images)
        _, local, logits = student(images)
        hints = sum(F.mse_loss(x, t) for x, t in zip(local, taught[1:])) + F.mse_loss(logits, target)
        return (
            F.cross_entropy(logits, labels)
            + GAMMA2 / len(local) * hints
            + GAMMA1 * student.expected_complexity(costs)
        )

    return parameters, loss


def main():
    who, precision = sys.argv[1], sys.argv[5]
    side, batch, threads = map(int, sys.argv[2:5])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if who == "teacher":
        network = Teacher().train().to(device)
        parameters, loss_of = network.parameters(), network.step
    else:
        network = Student().train().to(device)
        parameters, loss_of = learning(network, device)
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, side, side, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(images, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # Waits for the device.
        return loss.item()

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


main()
