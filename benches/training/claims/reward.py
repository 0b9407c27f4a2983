"""One optimiser step of a reward model on 2 prompts with K = 4 completions, all 6 pairs each: hone's trainer against torch, which
forwards either both sides of every pair (as TRL's RewardTrainer) or each completion once. Targets: 2 and 1.3 times torch."""
from lib.data import Texts
from lib.worker import Worker, alternate, ratio, summary

PROMPTS, K = 2, 4


def run(bench):
    texts = Texts(bench.model, seed=2)
    prompts = texts.lengths(PROMPTS, 16, 96)
    data = texts.rankings(prompts, [texts.lengths(K, 16, 128) for _ in prompts])
    data_file, ids_file, ids = bench.write("reward", data)
    tokens = sum(len(r["prompt"] + a) for r in ids["rankings"] for a in r["answers"])
    pairs = sum(len(r["pairs"]) for r in ids["rankings"])
    settings = {"epochs": 100_000, "batch_prompts": PROMPTS, "checkpoint_steps": 1_000_000, "learning_rate": 2e-4, **bench.arguments.settings}
    torch = {"model": bench.model, "ids": ids_file, "seed": 1}
    workers = [
        Worker("torch_pairs", bench.peer("reward"), {**torch, "rows": "pairs"}, bench.threads),
        Worker("hone", [bench.worker, "reward"], {"model": bench.model, "data": data_file, "seed": 1, "config": settings}, bench.threads),
        Worker("torch_each_once", bench.peer("reward"), {**torch, "rows": "each"}, bench.threads),
    ]
    answers, warm = alternate(workers, bench.arguments.repeats or 7)
    sides = {name: summary(a, pairs, "pairs_per_s") for name, a in answers.items()}
    to_pairs, to_each = ratio(sides["torch_pairs"], sides["hone"]), ratio(sides["torch_each_once"], sides["hone"])
    first = {name: w[0].get("loss", w[0].get("metrics", {}).get("loss")) for name, w in warm.items()}
    return {
        "claim": "reward steps on K = 4 at least twice torch on the same pairs; 1.3 times where torch too forwards each completion once",
        "target": {"pairs": 2.0, "each_once": 1.3}, "ratio": to_pairs["ratio"],
        "met": {"pairs": to_pairs["ratio"] >= 2.0, "each_once": to_each["ratio"] >= 1.3},
        "completion_tokens": tokens, "pairs": pairs, "first_loss": first, "sides": sides,
        "torch_padded_tokens": {n: answers[n][0]["padded_tokens"] for n in ("torch_pairs", "torch_each_once")},
        "hone_to_torch_pairs": to_pairs, "hone_to_torch_each_once": to_each,
    }
