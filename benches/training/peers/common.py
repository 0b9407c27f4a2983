"""What the torch peers share: taking turns with hone, loading a model in f32 with SDPA, LoRA linears, padding.
Needs torch and transformers (requirements.txt)."""
import json
import os
import sys
import time

import torch
from torch import nn

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def spec():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with open(sys.argv[1]) as text:
        it = json.load(text)
    torch.manual_seed(it.get("seed", 0))
    return it


def ids(it):
    with open(it["ids"]) as text:
        return json.load(text)


def peak_rss_mb():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Turns:
    """As hone's bench_worker: ready, then a line in, a measurement, a line out; the end of the input ends the process."""

    def __init__(self, free=False):
        self.free = free
        print(json.dumps({"ready": True, "threads": torch.get_num_threads()}), flush=True)
        self.wait()

    def wait(self):
        if not self.free and not sys.stdin.readline():
            os._exit(0)
        self.started = time.perf_counter()

    def next(self, **figures):
        seconds = time.perf_counter() - self.started
        print(json.dumps({**figures, "seconds": seconds, "peak_rss_mb": peak_rss_mb()}), flush=True)
        self.wait()


class LoraLinear(nn.Module):
    """y = W x + (alpha / r) B A x, as peft computes it; A is Kaiming-uniform, B zero."""

    def __init__(self, base, r, alpha):
        super().__init__()
        self.base, self.scale = base, alpha / r
        self.a = nn.Parameter(torch.empty(r, base.in_features).uniform_(-1, 1) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, r))

    def forward(self, x):
        return self.base(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.a), self.b)


def add_lora(model, r=16, alpha=32):
    """Freezes the model and gives each of the seven linears of a block an adapter."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in LORA_TARGETS:
                setattr(module, name, LoraLinear(child, r, alpha))
    return model


def load(model_class, path):
    return model_class.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")


def pad_right(sequences, fill=0):
    """`(rows, longest)` ids and mask."""
    longest = max(map(len, sequences))
    row = lambda s, rest, keep: (s if keep else [1] * len(s)) + [rest] * (longest - len(s))
    return torch.tensor([row(s, fill, True) for s in sequences]), torch.tensor([row(s, 0, False) for s in sequences])
