"""One optimiser step of a reward model in torch: LoRA, a scalar head at the last token, -log sigmoid of all pairs of each prompt.
`rows`: "pairs" forwards both sides of each pair (TRL's RewardTrainer: 12 rows for 4 completions), "each" every completion once.
A prompt is one micro-batch, padded to its longest row. Needs torch and transformers (requirements.txt)."""
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModel

import common

it = common.spec()
rankings = common.ids(it)["rankings"]
model = common.add_lora(common.load(AutoModel, it["model"])).train()
score = torch.nn.Linear(model.config.hidden_size, 1, bias=False)
torch.nn.init.zeros_(score.weight)
trained = [p for p in model.parameters() if p.requires_grad] + [score.weight]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, betas=(0.9, 0.95))


def rows(ranking):
    """The rows to forward, and which of them are the better and the worse of each pair."""
    pairs, answers = ranking["pairs"], ranking["answers"]
    if it["rows"] == "pairs":
        chosen = [i for pair in zip(*pairs) for i in pair]
        answers, pairs = [answers[i] for i in chosen], [(i, i + len(pairs)) for i in range(len(pairs))]
    return common.pad_right([ranking["prompt"] + a for a in answers]), list(zip(*pairs))


batches = [rows(r) for r in rankings]
turns = common.Turns()
while True:
    total = 0.0
    for (input_ids, mask), (better, worse) in batches:
        hidden = model(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        scores = score(hidden[torch.arange(len(mask)), mask.sum(1) - 1]).squeeze(-1)
        loss = -logsigmoid(scores[list(better)] - scores[list(worse)]).mean() / len(batches)
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    turns.next(loss=total, padded_tokens=sum(ids.numel() for (ids, _), _ in batches))
