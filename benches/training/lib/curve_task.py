"""The task of the learning curves: descriptions in warm words. Prompts, the rule that ranks, the reward model that hone trains on
those rankings. Standard library only."""
import json
import random
import re

from lib.data import data_set

ASKS = ["Describe {} in two sentences.", "Write a short review of {}.", "Tell a friend about {}.", "Write a short note about {}."]
TOPICS = ["a walk by the sea", "a small bakery", "a train ride through the hills", "a rainy morning", "an old library", "a birthday party",
          "a new bicycle", "a street market", "a football match", "a city park", "a bowl of soup", "a piano concert", "a mountain hut",
          "a first day at school", "a long flight", "a garden in spring", "a visit to the dentist", "a winter evening", "a used car",
          "a family dinner", "a science museum", "a camping trip", "a phone call", "a crowded bus"]
WARM = set("""amazing awesome beautiful beautifully best blissful bright brilliant calm charming cheerful comfortable cozy cute delicious
delight delighted delightful easy elegant enchanting enjoy enjoyable enjoyed enjoying excellent excited exciting fantastic favorite fine
fresh friendly fun gentle glad glorious good gorgeous graceful grateful great happily happiness happy harmony heartwarming helpful hope
incredible inspiring inviting joy joyful kind laughter lively love loved lovely loving lush magical magnificent memorable nice peace
peaceful perfect perfectly playful pleasant pleased pleasure pretty proud refreshing relaxing rich romantic safe serene shining smile
smiles smiling soft soothing sparkling special splendid stunning sunny superb sweet terrific thank thrilled tranquil treasure vibrant
warm warmth welcome welcoming wonder wonderful wonderfully""".split())
COLD = set("""angry annoying awful bad bitter bland boring broken cold complaint damage dark dead difficult dirty disappointed disappointing
dull empty expensive fail failed fear gray grey hard hate hurt lonely lost mess nervous never noisy pain painful poor problem rude sad
scared sick slow sorry stress stressful terrible tired ugly unfortunately uncomfortable unhappy waste worse worst wrong""".split())


def prompts():
    return [{"messages": [{"role": "user", "content": ask.format(topic)}]} for topic in TOPICS for ask in ASKS]


def warmth(text):
    """Warm words minus cold ones, per word."""
    words = re.findall("[a-z]+", text.lower())
    return (sum(w in WARM for w in words) - sum(w in COLD for w in words)) / max(len(words), 1)


def ranked(samples):
    """A data set of rankings, the warmest answer first; equal warmth is a tie."""
    rankings = []
    for sample in samples:
        scores = [warmth(a) for a in sample["answers"]]
        tiers = sorted(set(scores), reverse=True)
        rankings.append({"messages": sample["messages"], "candidates": sample["answers"],
                         "ranking": [tiers.index(s) for s in scores], "labeler": "rule"})
    return data_set(rankings=rankings[8:], held_out_rankings=rankings[:8])


def sampled(bench, model, prompts_file, new_tokens):
    sampling = {"model": model, "data": str(prompts_file), "max_new_tokens": new_tokens, "seed": 1, "per_prompt": 4}
    return [json.loads(line) for line in bench.tool("sample", sampling).splitlines()]


def made_up():
    """For --quick, whose random model says nothing that could be ranked."""
    rng = random.Random(1)
    words = sorted(WARM | COLD)
    return [{"messages": p["messages"], "answers": [" ".join(rng.sample(words, 3)) for _ in range(4)]} for p in prompts()[::6]]


def reward_model(bench, model, folder, settings):
    """Samples answers of the base, ranks them, trains hone's reward model on them, once: its artifact in `folder`."""
    artifact = folder / "reward-run" / "artifact"
    if (artifact / "reward.json").exists():
        return artifact
    folder.mkdir(parents=True, exist_ok=True)
    prompts_file = folder / "prompts.json"
    prompts_file.write_text(json.dumps(data_set(prompts=prompts())))
    samples = made_up() if bench.arguments.quick else sampled(bench, model, prompts_file, settings["new_tokens"])
    rankings_file = folder / "rankings.json"
    rankings_file.write_text(json.dumps(ranked(samples)))
    training = {"model": model, "data": str(rankings_file), "run_dir": str(folder / "reward-run"), "seed": 1, "free": True,
                "config": {"epochs": settings["epochs"]}}
    (folder / "reward.log").write_text(bench.tool("reward", training))
    return artifact
