"""How hone's SFT step grows at 1, 2 and 4 times the batch, the length and the rank: time and peak memory, each point in a process
of its own, in turns. Once with the default micro-batches, which bound the memory, and once with the whole batch at once."""
from lib.data import Texts
from lib.worker import Worker, alternate, summary

START = {"batch": 4, "length": 128, "rank": 8}


def run(bench):
    texts = Texts(bench.model, seed=4)
    found = {}
    for mode, budget in (("default_micro_batches", {}), ("whole_batch_at_once", {"micro_batch_tokens": 1_000_000})):
        for what in START:
            points = [point(bench, texts, {**START, what: START[what] * times}, budget, f"{times}x") for times in (1, 2, 4)]
            tokens = {worker.name: n for worker, n in points}
            answers, _ = alternate([worker for worker, _ in points], bench.arguments.repeats or 3)
            sides = {name: summary(a, tokens[name], "tokens_per_s") for name, a in answers.items()}
            for name, side in sides.items():
                side.update(tokens=tokens[name], time_to_1x=round(side["median_seconds"] / sides["1x"]["median_seconds"], 3),
                            memory_to_1x=round(side["peak_rss_mb"] / sides["1x"]["peak_rss_mb"], 3))
            found.setdefault(mode, {})[what] = sides
    return {"claim": "cost grows linearly with tokens", "start": START, **found}


def point(bench, texts, sizes, budget, name):
    """The worker of a point, waiting for its turns, and the tokens of one of its steps."""
    prompt = sizes["length"] // 2
    data = texts.demonstrations([prompt] * sizes["batch"], [sizes["length"] - prompt] * sizes["batch"])
    data_file, _, _ = bench.write(f"scaling-{name}", data)
    settings = {"epochs": 100_000, "batch_examples": sizes["batch"], "checkpoint_steps": 1_000_000, "lora_r": sizes["rank"],
                **budget, **bench.arguments.settings}
    spec = {"model": bench.model, "data": data_file, "seed": 4, "config": settings}
    return Worker(name, [bench.worker, "sft"], spec, bench.threads), sizes["batch"] * sizes["length"]
