"""One optimiser step of SFT in torch: a batch padded to its longest sequence, cross-entropy of the answers' tokens, AdamW on LoRA.
`head`: "all" computes the logits of every position, as trainers do; "response" those of the answers' positions only.
Needs torch and transformers (requirements.txt)."""
import torch
from transformers import AutoModelForCausalLM

import common

it = common.spec()
examples = common.ids(it)["demonstrations"]
model = common.add_lora(common.load(AutoModelForCausalLM, it["model"])).train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, betas=(0.9, 0.95))
input_ids, mask = common.pad_right([e["prompt"] + e["answer"] for e in examples])
labels, _ = common.pad_right([[-100] * len(e["prompt"]) + e["answer"] for e in examples], fill=-100)


def loss():
    if it["head"] == "all":
        return model(input_ids=input_ids, attention_mask=mask, labels=labels, use_cache=False).loss
    hidden = model.model(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    said = target != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[said]), target[said])


turns = common.Turns()
while True:
    value = loss()
    value.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    turns.next(loss=value.item(), padded_tokens=input_ids.numel())
