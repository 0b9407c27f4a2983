"""Reward and KL over wall time: hone with its own defaults against TRL 1.12.0, three seeds, from the same base, prompts and reward
model. Target: hone is at TRL's reward, at no more KL, three times sooner. Each seed of each side is a file of its own in the cache,
and is not measured again when it is there; an unfinished one starts over."""
import datetime
import json
import statistics
import sys

from machine import describe
from lib import curve_task
from lib.ppo import SAME_REWARD, check_scores, export, recipe, size, trl_spec
from lib.worker import Worker

TARGET = 3.0
# TRL's side learns at 1e-4, the rate at which adapters in all blocks learned best in hone. The recipe's own 3e-5 was not measured.
PEER_LEARNING_RATE = 1e-4
SMOOTH = 3  # iterations in a running mean: a batch's mean of 32 scores is noisy


def run(bench):
    a = bench.arguments
    model = a.model or bench.model
    if not (a.model or a.quick or a.report):
        raise SystemExit("random weights learn no style: give a real model with --model DIR")
    folder = bench.cache / ("curves-quick" if a.quick else "curves")
    if not a.report:
        measure(bench, model, folder)
    found = {side: [json.loads(p.read_text()) for p in sorted(folder.glob(f"{side}-seed*.json"))] for side in ("hone", "trl")}
    if not all(found.values()):
        raise SystemExit(f"nothing to compare yet in {folder}: run without --report")
    return {"claim": "hone's defaults reach TRL's reward at no more KL at least three times sooner", "target": TARGET,
            **compare(found), "curves": found}


def measure(bench, model, folder):
    a = bench.arguments
    task = {"new_tokens": 48, "epochs": 1 if a.quick else 2}
    adapter = curve_task.reward_model(bench, model, folder, task)
    data_file, ids_file, ids = bench.write("curves", curve_task.data_set(prompts=curve_task.prompts()), model)
    exported = export(bench, model, adapter, folder / "reward-trl")
    agreement = check_scores(bench, model, adapter, exported, ids)
    iterations = a.iterations or 12
    config = {**size(bench), **SAME_REWARD, "total_episodes": iterations * recipe(bench)["batch_episodes"], **a.settings}
    for seed in range(1, a.seeds + 1):
        hone = {"model": model, "data": data_file, "reward": str(adapter), "seed": seed, "config": config, "free": True}
        one(bench, folder, "hone", [bench.worker, "ppo"], hone, seed, agreement)
        trl = trl_spec(bench, model, exported, ids_file, iterations, seed, free=True, learning_rate=PEER_LEARNING_RATE)
        one(bench, folder, "trl", bench.peer("trl_ppo"), trl, seed, agreement)


def one(bench, folder, side, command, spec, seed, agreement):
    """One seed of one side: a row per iteration, with the wall time since training began."""
    path = folder / f"{side}-seed{seed}.json"
    if path.exists():
        return
    worker, rows, wall = Worker(side, command, spec, bench.threads), [], 0.0
    for line in worker.lines():
        if "seconds" in line:
            wall += line["seconds"]
            m = line["metrics"]
            rows.append({"step": line["step"], "wall_seconds": round(wall, 2), "peak_rss_mb": round(line["peak_rss_mb"]),
                         "episode": m.get("episode"), "score": m["objective/scores"], "kl": m["objective/kl"]})
            now = datetime.datetime.now().strftime("%H:%M:%S")
            print(f"{now} {side} seed {seed}: {rows[-1]}", file=sys.stderr, flush=True)
    worker.close()
    about = describe(bench.python if side == "trl" else None)
    path.write_text(json.dumps({"side": side, "seed": seed, **about, "spec": spec, "same_rewards": agreement, "rows": rows}))


def smooth(rows, key):
    return [statistics.fmean(r[key] for r in rows[max(0, i - SMOOTH + 1) : i + 1]) for i in range(len(rows))]


def reached(rows, level, kl_most=None):
    """`(wall seconds, KL)` where the running mean of the score first reaches `level` at no more than `kl_most`, or None."""
    for row, score, kl in zip(rows, smooth(rows, "score"), smooth(rows, "kl")):
        if score >= level and (kl_most is None or kl <= kl_most):
            return row["wall_seconds"], kl
    return None


def compare(found):
    """The level is 90 % of what TRL gains over its run, on the mean of its seeds; each seed of hone against TRL's of the same number."""
    first = statistics.fmean(run["rows"][0]["score"] for side in found.values() for run in side)
    last = statistics.fmean(smooth(run["rows"], "score")[-1] for run in found["trl"])
    level = first + 0.9 * (last - first)
    seeds = []
    for hone, trl in zip(found["hone"], found["trl"]):
        theirs = reached(trl["rows"], level)
        ours = reached(hone["rows"], level, theirs and max(theirs[1], 0.0) * 1.05 + 0.05)
        both = ours and theirs
        seeds.append({"seed": trl["seed"], "trl": theirs, "hone": ours, "ratio": round(theirs[0] / ours[0], 3) if both else None})
    ratios = [s["ratio"] for s in seeds if s["ratio"]]
    whole = len(ratios) == len(seeds)
    median = statistics.median(ratios) if ratios else None
    return {"start_score": first, "trl_last_score": last, "level": level, "seeds_wall_seconds_and_kl": seeds, "ratio": median,
            "met": whole and median >= TARGET, "note": None if last > first else "TRL gained nothing: run more --iterations"}
