"""Scores of texts by TRL's own get_reward, to be compared with hone's. Needs trl 1.12.0 (requirements-trl.txt)."""
import json

import torch

import common
import trl_scorer

it = common.spec()
model = trl_scorer.load(it["reward"]).eval()
get_reward = trl_scorer.closed(model, it["eos_ids"])
rewards = []
with torch.no_grad():
    for prompt, answer in it["texts"]:
        _, reward, _ = get_reward(model, torch.tensor([prompt + answer]), it["pad_id"], len(prompt))
        rewards.append(reward.item())
print(json.dumps({"rewards": rewards}))
