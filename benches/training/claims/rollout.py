"""16 prompts, 64 new tokens each, sampled: hone's generate against transformers', on the base and with an unmerged LoRA (as PPO's
rollouts have). Target: 3 times transformers."""
from lib.data import Texts
from lib.worker import Worker, alternate, ratio, summary

TARGET, NEW_TOKENS = 3.0, 64


def run(bench):
    texts = Texts(bench.model, seed=3)
    data_file, ids_file, ids = bench.write("rollout", texts.prompts(texts.lengths(16, 16, 96)))
    new_tokens = 8 if bench.arguments.quick else NEW_TOKENS
    found = {}
    for name, adapter in (("base", False), ("lora", True)):
        common = {"model": bench.model, "max_new_tokens": new_tokens, "adapter": adapter, "seed": 3}
        workers = [
            Worker("transformers", bench.peer("rollout"), {**common, "ids": ids_file}, bench.threads),
            Worker("hone", [bench.worker, "rollout"], {**common, "data": data_file}, bench.threads),
        ]
        answers, _ = alternate(workers, bench.arguments.repeats or 5)
        sides = {side: summary(a, 16 * new_tokens, "tokens_per_s") for side, a in answers.items()}
        found[name] = {"sides": sides, "hone_to_transformers": ratio(sides["transformers"], sides["hone"])}
    best = found["base"]["hone_to_transformers"]["ratio"]
    return {"claim": "rollouts at least three times transformers' generate", "target": TARGET, "ratio": best, "met": best >= TARGET,
            "prompts": 16, "prompt_tokens": sum(map(len, ids["prompts"])), "new_tokens_each": new_tokens, **found}
