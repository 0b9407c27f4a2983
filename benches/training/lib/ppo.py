"""What ppo and curves share: the recipe that both sides follow, the reward model in both formats, and the check that they agree.
Standard library only."""
import json
import os
import shutil
import subprocess

# The recipe of the comparison, by hone's names. What TRL has no setting for is set in hone as TRL does it: no gradient clipping, no
# early stop, no score clip, the learning rates linear to 0 from the start.
RECIPE = {
    "batch_episodes": 32, "minibatch_episodes": 8, "inner_epochs": 4, "max_new_tokens": 64, "temperature": 1.0,
    "learning_rate": 3e-5, "value_learning_rate": 3e-5, "kl_coef": 0.05, "value_coef": 0.1, "gamma": 1.0, "gae_lambda": 0.95,
    "clip_ratio": 0.2, "clip_value": 0.2, "lora_r": 16, "lora_alpha": 32.0, "decay": "linear", "learning_rate_floor": 0.0,
    "warmup_iterations": 0, "gradient_norm_max": 1e9, "approx_kl_max_nats": 0.0, "score_clip": 1e9,
}
QUICK = {"batch_episodes": 8, "minibatch_episodes": 4, "inner_epochs": 1, "max_new_tokens": 8}
# The reward is the reward model's on both sides: nothing is taken off an answer that was cut at its length.
SAME_REWARD = {"missing_eos_score": None, "missing_eos_penalty": 0.0}
PAD_ID = 0


def recipe(bench):
    return {**RECIPE, **(QUICK if bench.arguments.quick else {})}


def size(bench):
    """What hone's defaults must share with the recipe: how many answers an iteration has, and how long they are."""
    return {name: recipe(bench)[name] for name in ("batch_episodes", "max_new_tokens")}


def trl_spec(bench, model, reward, ids_file, iterations, seed, **more):
    shared = "batch_episodes minibatch_episodes inner_epochs max_new_tokens learning_rate kl_coef".split()
    return {"model": model, "reward": str(reward), "ids": ids_file, "pad_id": PAD_ID, "iterations": iterations, "seed": seed,
            "lr_scheduler_type": "linear", **{name: recipe(bench)[name] for name in shared}, **more}


def export(bench, model, adapter, out):
    """The reward model for TRL, in `out`; made again each time, since the adapter may be another."""
    shutil.rmtree(out, ignore_errors=True)
    call(bench, "export_reward", {"model": model, "adapter": str(adapter), "out": str(out), "pad_id": PAD_ID})
    return out


def call(bench, peer, spec):
    path = bench.cache / f"{peer}-spec.json"
    path.write_text(json.dumps(spec))
    env = {**os.environ, "OMP_NUM_THREADS": str(bench.threads), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*bench.peer(peer), path], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def check_scores(bench, model, adapter, exported, ids):
    """Both sides' rewards of 8 texts, 4 of which end by themselves; stops where they differ by more than 1e-3."""
    eos = ids["eos_ids"]
    body = [[t for t in p if t not in eos and t != PAD_ID] for p in ids["prompts"]]
    texts = [(body[i % len(body)], body[(i + 1) % len(body)][: 5 + 3 * i] + (eos[:1] if i % 2 else [])) for i in range(8)]
    closed = [p + a + ([] if a[-1] in eos else eos[:1]) for p, a in texts]
    hone = json.loads(bench.tool("score", {"model": model, "adapter": str(adapter), "texts": closed}))["rewards"]
    spec = {"model": model, "reward": str(exported), "texts": texts, "eos_ids": eos, "pad_id": PAD_ID}
    trl = json.loads(call(bench, "trl_score", spec).splitlines()[-1])["rewards"]
    apart = max(abs(h - t) for h, t in zip(hone, trl))
    if apart > 1e-3:
        raise SystemExit(f"the reward models differ by {apart}: hone {hone}, TRL {trl}")
    return {"texts": len(texts), "largest_difference": apart, "hone": hone}
