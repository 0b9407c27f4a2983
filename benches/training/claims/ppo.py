"""PPO iterations of TRL 1.12.0 against hone's trainer with the same recipe, and with hone's own defaults: 32 prompts of 32 tokens, 64
new ones each. Targets: twice TRL's samples per second with the same recipe, a quarter of its peak memory."""
import json

from machine import describe
from lib.data import Texts
from lib.ppo import SAME_REWARD, check_scores, export, recipe, size, trl_spec
from lib.worker import Worker, alternate, ratio, summary

TARGET, TARGET_MEMORY = 2.0, 0.25


def run(bench):
    quick, measured = bench.arguments.quick, bench.arguments.iterations or 3
    iterations = measured + 1  # the first one warms up
    texts = Texts(bench.model, seed=5)
    data_file, ids_file, ids = bench.write("ppo", texts.prompts([32] * 64))
    adapter = bench.cache / f"random-reward-{'quick' if quick else bench.model.rsplit('/', 1)[-1]}"
    bench.tool("adapter", {"model": bench.model, "adapter": str(adapter)})
    exported = export(bench, bench.model, adapter, bench.cache / "random-reward-trl")
    agreement = check_scores(bench, bench.model, adapter, exported, ids)

    batch = recipe(bench)["batch_episodes"]
    episodes = {**size(bench), "total_episodes": iterations * batch, "checkpoint_iterations": 1_000_000}
    common = {"model": bench.model, "data": data_file, "reward": str(adapter), "seed": 5}
    defaults = {**episodes, **SAME_REWARD, **bench.arguments.settings}
    workers = [
        Worker("hone_same_recipe", [bench.worker, "ppo"], {**common, "config": {**recipe(bench), **defaults}}, bench.threads),
        Worker("hone_defaults", [bench.worker, "ppo"], {**common, "config": defaults}, bench.threads),
    ]
    cached = bench.cache / "ppo-trl.json"
    if not bench.arguments.cached_peer:
        workers.insert(0, Worker("trl", bench.peer("trl_ppo"), trl_spec(bench, bench.model, exported, ids_file, iterations, 5), bench.threads))
    answers, _ = alternate(workers, measured)
    sides = {name: side(a, batch) for name, a in answers.items()}
    peer = "measured in this run"
    if bench.arguments.cached_peer:
        stored = json.loads(cached.read_text())
        sides["trl"], peer = stored["side"], f"measured at {stored['date']} with commit {stored['commit']}, not in this run"
    elif not quick:
        about = describe()
        cached.write_text(json.dumps({"side": sides["trl"], "date": about["date"], "commit": about["commit"]}))
    same, own = ratio(sides["trl"], sides["hone_same_recipe"]), ratio(sides["trl"], sides["hone_defaults"])
    return {
        "claim": "PPO at least twice TRL's samples/s with the same recipe, in at most a quarter of its memory", "peer": peer,
        "target": {"speed": TARGET, "memory": TARGET_MEMORY}, "ratio": same["ratio"], "memory_ratio": same["memory"],
        "met": {"speed": same["ratio"] >= TARGET, "memory": same["memory"] <= TARGET_MEMORY}, "recipe": recipe(bench),
        "same_rewards": agreement, "sides": sides, "hone_same_recipe_to_trl": same, "hone_defaults_to_trl": own,
    }


def side(answers, batch):
    found = summary(answers, batch, "samples_per_s")
    names = {n for a in answers for n in a["metrics"] if n.startswith("seconds/")}
    found["phases"] = {n: round(sum(a["metrics"].get(n, 0.0) for a in answers) / len(answers), 3) for n in sorted(names)}
    found["objective/kl"] = [a["metrics"].get("objective/kl") for a in answers]
    found["objective/scores"] = [a["metrics"].get("objective/scores") for a in answers]
    return found
