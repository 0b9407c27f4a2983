"""Writes golden.json: inputs and PyTorch's answers (values and autograd gradients) for the maths of crates/learn.

Run once by hand, float64 unless said: python make_golden.py > golden.json   (needs torch)
"""

import json
import math

import torch

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def numbers(t):
    return [float(x) for x in t.detach().flatten()]


def with_grad(loss, leaf):
    (grad,) = torch.autograd.grad(loss, leaf)
    return {"value": float(loss), "grad": numbers(grad)}


def softplus_cases():
    x = torch.tensor([-800.0, -40.0, -1.5, 0.0, 0.3, 12.0, 800.0])
    # threshold: torch switches to the identity above it; far enough up that this is exact in float64
    return {"x": numbers(x), "softplus": numbers(torch.nn.functional.softplus(x, threshold=100)), "sigmoid": numbers(torch.sigmoid(x))}


def cross_entropy_case():
    logits = torch.randn(6, 11)
    targets = torch.randint(0, 11, (6,))
    logprobs = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0].clone().requires_grad_()
    mean = torch.nn.functional.cross_entropy(logits, targets)
    loss = -logprobs.mean()
    assert abs(float(mean) - float(loss)) < 1e-12
    return {"logprobs": numbers(logprobs), **with_grad(loss, logprobs)}


def ranking_cases():
    cases = []
    for ranks in ([0, 1], [2, 0, 1, 3], [0, 1, 1, 2, 0], [0, 0, 0]):
        scores = torch.randn(len(ranks)).mul(2).requires_grad_()
        pairs = [(w, l) for w in range(len(ranks)) for l in range(len(ranks)) if ranks[w] < ranks[l]]
        terms = [torch.nn.functional.logsigmoid(scores[w] - scores[l]) for w, l in pairs]
        loss = -(torch.stack(terms).sum() if terms else scores.sum() * 0) / math.comb(len(ranks), 2)
        cases.append({"scores": numbers(scores), "ranks": ranks, **with_grad(loss, scores)})
    return cases


def doubted_ranking_cases():
    """Margins of Llama 2 and label smoothing: the expectation over a label that is wrong with probability e."""
    cases = []
    for ranks, smoothing in (([0, 1], 0.1), ([2, 0, 1, 3], 0.0), ([0, 1, 1, 2, 0], 0.2)):
        scores = torch.linspace(-2.0, 2.5, len(ranks)).flip(0).sin().mul(3).requires_grad_()
        pairs = [(w, l) for w in range(len(ranks)) for l in range(len(ranks)) if ranks[w] < ranks[l]]
        margins = [0.3 * (ranks[l] - ranks[w]) for w, l in pairs]
        log = torch.nn.functional.logsigmoid
        ahead = [scores[w] - scores[l] for w, l in pairs]
        terms = [(1 - smoothing) * log(d - m) + smoothing * log(-d - m) for d, m in zip(ahead, margins)]
        loss = -torch.stack(terms).sum() / math.comb(len(ranks), 2)
        cases.append({"scores": numbers(scores), "ranks": ranks, "margins": margins, "smoothing": smoothing, **with_grad(loss, scores)})
    return cases


def ppo_case():
    n, clip = 24, 0.2
    old = -torch.rand(n) * 3
    new = (old + torch.randn(n) * 0.3).requires_grad_()
    advantages = torch.randn(n)
    ratio = (new - old).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss = torch.max(unclipped, clipped).mean()
    policy = {
        "new": numbers(new), "old": numbers(old), "advantages": numbers(advantages), "clip": clip, **with_grad(loss, new),
        "approx_kl": float(0.5 * ((new - old) ** 2).mean()), "clip_fraction": float((clipped > unclipped).double().mean()),
        "ratio": float(ratio.mean()),
    }
    old_value = torch.randn(n)
    value = (old_value + torch.randn(n) * 0.4).requires_grad_()
    returns = torch.randn(n)
    near = torch.clamp(value, old_value - clip, old_value + clip)
    first, second = (value - returns) ** 2, (near - returns) ** 2
    loss = 0.5 * torch.max(first, second).mean()
    critic = {
        "new": numbers(value), "old": numbers(old_value), "returns": numbers(returns), "clip": clip, **with_grad(loss, value),
        "clip_fraction": float((second > first).double().mean()),
    }
    return policy, critic


def gae_case():
    """One batch element of TRL's PPOTrainer / N+: rewards, then the reversed loop, on (1, T) tensors."""
    t, gamma, lam, beta, score = 9, 0.97, 0.95, 0.05, 1.7
    logprob, reference = -torch.rand(1, t) * 2, -torch.rand(1, t) * 2
    rewards = -beta * (logprob - reference)
    rewards[:, -1] += score
    values = torch.randn(1, t)
    last, reversed_advantages = 0, []
    for i in reversed(range(t)):
        next_values = values[:, i + 1] if i < t - 1 else 0.0
        delta = rewards[:, i] + gamma * next_values - values[:, i]
        last = delta + gamma * lam * last
        reversed_advantages.append(last)
    advantages = torch.stack(reversed_advantages[::-1], axis=1)
    returns = advantages + values
    white = (advantages - advantages.mean()) * torch.rsqrt(torch.var(advantages, unbiased=False) + 1e-8)
    d = reference - logprob
    return {
        "gamma": gamma, "lambda": lam, "kl_coef": beta, "score": score, "logprobs": numbers(logprob), "reference": numbers(reference),
        "k1": numbers(-d), "k3": numbers(d.exp() - 1 - d), "rewards": numbers(rewards), "values": numbers(values),
        "advantages": numbers(advantages), "returns": numbers(returns), "whitened": numbers(white),
        "explained_variance": float(1 - torch.var(returns - values) / torch.var(returns)),
    }


def adamw_case():
    """float32, as the weights are. Gradients come from a fixed list, clipped to norm 1 first."""
    w = torch.nn.Parameter(torch.randn(5, dtype=torch.float32))
    optimiser = torch.optim.AdamW([w], lr=0.01, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1)
    start, steps = numbers(w), []
    for _ in range(6):
        grad = torch.randn(5, dtype=torch.float32) * 2
        w.grad = grad.clone()
        norm = torch.nn.utils.clip_grad_norm_([w], 1.0)
        optimiser.step()
        steps.append({"grad": numbers(grad), "norm": float(norm), "weights": numbers(w)})
    return {"learning_rate": 0.01, "weight_decay": 0.1, "norm_max": 1.0, "start": start, "steps": steps}


def schedule_case():
    n, peak, floor = 8, 0.003, 0.1
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=n - 1, eta_min=peak * floor)
    rates = []
    for _ in range(n):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    return {"peak": peak, "floor": floor, "steps": n, "cosine": rates}


policy, critic = ppo_case()
golden = {
    "torch": torch.__version__, "softplus": softplus_cases(), "cross_entropy": cross_entropy_case(), "ranking": ranking_cases(),
    "doubted_ranking": doubted_ranking_cases(),
    "policy": policy, "value": critic, "gae": gae_case(), "adamw": adamw_case(), "schedule": schedule_case(),
}
print(json.dumps(golden, indent=1))
