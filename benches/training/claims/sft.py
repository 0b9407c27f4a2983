"""One optimiser step of SFT on 8 sequences: hone's trainer against torch, padded as every trainer does. Target: 1.3 times torch."""
from lib.data import Texts
from lib.worker import Worker, alternate, ratio, summary

TARGET = 1.3


def run(bench):
    return {"claim": "SFT steps at least 1.3 times as fast as torch", "target": TARGET, **shapes(bench)}


def shapes(bench):
    """Varied lengths are what batches are like; equal ones need no padding, so that the work is the same to the token."""
    texts = Texts(bench.model, seed=1)
    varied = texts.lengths(8, 16, 96), texts.lengths(8, 16, 128)
    found = {"varied": compare(bench, texts.demonstrations(*varied), "varied"),
             "equal": compare(bench, texts.demonstrations([56] * 8, [72] * 8), "equal")}
    return {"ratio": found["varied"]["hone_to_torch"]["ratio"], "met": found["varied"]["hone_to_torch"]["ratio"] >= TARGET, **found}


def compare(bench, data, name):
    data_file, ids_file, ids = bench.write(f"sft-{name}", data)
    tokens = sum(len(e["prompt"] + e["answer"]) for e in ids["demonstrations"])
    settings = {"epochs": 100_000, "batch_examples": 8, "checkpoint_steps": 1_000_000, "learning_rate": 2e-4, **bench.arguments.settings}
    hone = {"model": bench.model, "data": data_file, "seed": 1, "config": settings}
    torch = {"model": bench.model, "ids": ids_file, "seed": 1}
    workers = [
        Worker("torch", bench.peer("sft"), {**torch, "head": "all"}, bench.threads),
        Worker("hone", [bench.worker, "sft"], hone, bench.threads),
        Worker("torch_response_head", bench.peer("sft"), {**torch, "head": "response"}, bench.threads),
    ]
    answers, warm = alternate(workers, bench.arguments.repeats or 7)
    sides = {name: summary(a, tokens, "tokens_per_s") for name, a in answers.items()}
    first = {name: w[0].get("loss", w[0].get("metrics", {}).get("loss")) for name, w in warm.items()}
    if max(first.values()) - min(first.values()) > 1e-3 * max(first.values()):
        raise SystemExit(f"the sides don't do the same work: their first losses are {first}")
    return {"tokens": tokens, "torch_padded_tokens": answers["torch"][0]["padded_tokens"], "first_loss": first, "sides": sides,
            "hone_to_torch": ratio(sides["torch"], sides["hone"]),
            "hone_to_torch_response_head": ratio(sides["torch_response_head"], sides["hone"])}
