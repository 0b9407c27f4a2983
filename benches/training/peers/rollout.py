"""Sampling with transformers' generate: all prompts in one left-padded batch with its KV cache, temperature 1, no early end.
Needs torch and transformers (requirements.txt)."""
import torch
from transformers import AutoModelForCausalLM

import common

it = common.spec()
prompts = common.ids(it)["prompts"]
model = common.load(AutoModelForCausalLM, it["model"]).eval()
if it["adapter"]:
    common.add_lora(model)
longest = max(map(len, prompts))
input_ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
model.generation_config.eos_token_id = None
turns = common.Turns()
while True:
    with torch.inference_mode():
        out = model.generate(
            input_ids=input_ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
            min_new_tokens=it["max_new_tokens"], max_new_tokens=it["max_new_tokens"],
        )
    turns.next(new_tokens=out[:, longest:].numel())
