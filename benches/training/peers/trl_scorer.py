"""The reward model as TRL calls it. Needs trl 1.12.0 (requirements-trl.txt).

`get_reward` of TRL reads the score at the last token before the padding. hone's reward models are trained at an end token, so an
answer that was cut at its length gets one for the reading, on both sides: hone does it itself, here `closed` does."""
import json

import torch
from transformers import AutoModelForSequenceClassification
from trl.experimental.ppo import ppo_trainer

plain_get_reward = ppo_trainer.get_reward


def load(folder):
    """A fresh copy, with the normalisation's constant as the head's bias: for the reward model, or to start the value model from."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32, attn_implementation="sdpa")
    with open(f"{folder}/score_bias.json") as text:
        bias = json.load(text)
    score = torch.nn.Linear(model.config.hidden_size, 1)
    with torch.no_grad():
        score.weight.copy_(model.score.weight)
        score.bias.fill_(bias)
    model.score = score
    return model


def closed(reward_model, eos_ids):
    """TRL's get_reward, with an end token behind answers that `reward_model` is given without one."""

    def get_reward(model, query_responses, pad_token_id, context_length):
        if model is not reward_model:
            return plain_get_reward(model, query_responses, pad_token_id, context_length)
        answers = query_responses[:, context_length:]
        ended = ((answers == pad_token_id) | torch.isin(answers, torch.tensor(eos_ids))).any(dim=1)
        last = torch.where(ended, pad_token_id, eos_ids[0]).unsqueeze(1)
        return plain_get_reward(model, torch.cat([query_responses, last], dim=1), pad_token_id, context_length)

    return get_reward
