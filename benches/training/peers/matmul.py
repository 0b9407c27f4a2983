"""One large square product in torch (MKL or oneDNN, whichever torch chooses). Needs torch (requirements.txt)."""
import time

import torch

import common

n = common.spec()["square"]
a, b, c = torch.full((n, n), 0.5), torch.full((n, n), 0.25), torch.empty(n, n)
turns = common.Turns()
while True:
    start = time.perf_counter()
    torch.mm(a, b, out=c)
    turns.next(flops=2 * n**3 / (time.perf_counter() - start))
