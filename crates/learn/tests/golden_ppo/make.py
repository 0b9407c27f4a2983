"""Makes the golden numbers in this folder: one whole PPO iteration by TRL 1.12.0's own trainer on a tiny random model.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

TRL's `PPOTrainer.train` runs as installed, in float64, on fixed answers instead of sampled ones. Where hone differs from it on
purpose, TRL's source is changed by the replacements in `ON_PURPOSE` (each must be found exactly once), so that everything else
is TRL's own arithmetic. Policy, reference, value function and reward model are LoRA adapters on one frozen base, as in hone.
"""

import inspect
import json
import os
import textwrap

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig, ppo_trainer

HERE = os.path.dirname(os.path.abspath(__file__))
PAD, EOS, VOCAB = 23, 22, 24
R, ALPHA = 2, 3.0
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEMPERATURE, KL_COEF, GAMMA, LAMBDA, CLIP, CLIP_VALUE, VALUE_COEF, MISSING_EOS_PENALTY = 0.7, 0.3, 0.97, 0.95, 0.2, 0.2, 0.1, 0.75
RATE, VALUE_RATE, NORM_MAX = 0.01, 0.02, 2.0
REWARD_MEAN, REWARD_STD = 0.4, 1.6

# Prompts and answers of different lengths; three answers end by themselves, three are cut off.
EPISODES = [
    ([1, 5, 9], [3, 3, 17, 8, EOS]),
    ([4, 11, 0, 8, 2], [7, 12]),
    ([6], [20, 1, 14, EOS]),
    ([2, 2, 13, 19], [5, 9, 10, 11, 15, 6]),
    ([18, 7], [EOS]),
    ([10, 3, 21], [16, 4, 4]),
]
# The orders in which hone's generator (ChaCha8, seed 3) shuffles six episodes; each epoch shuffles the order before.
ORDERS = [[2, 1, 0, 4, 3, 5], [1, 0, 2, 3, 5, 4], [2, 5, 4, 3, 0, 1]]
MINIBATCH = 3

ON_PURPOSE = [
    # TRL pays the score one state after the last token and has a value there too; in hone the episode ends with its last token.
    ("sequence_lengths_p1 = sequence_lengths + 1", "sequence_lengths_p1 = sequence_lengths"),
    # TRL whitens over the batch with the sample variance, hone over each minibatch (as N and N+ do) with the population's.
    ("advantages = masked_whiten(advantages, ~padding_mask)\n", "raw_advantages = advantages\n"),
    (
        "mb_advantage = advantages[micro_batch_inds]",
        "mb_advantage = population_whiten(advantages[micro_batch_inds], ~padding_mask[micro_batch_inds])",
    ),
    # TRL takes one step for both models and doesn't clip; hone clips and steps policy and value function each by itself.
    ("optimizer.step()\n", "step(self, locals())\n"),
    ("optimizer.zero_grad()\n", "pass\n"),
]


class Lora(torch.nn.Module):
    """y = W x + b + (alpha / r) B A x with W, b frozen."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.a = torch.nn.Parameter((torch.randn(R, linear.in_features) / linear.in_features**0.5).float().double())
        self.b = torch.nn.Parameter((torch.randn(linear.out_features, R) * 0.4).float().double())

    def forward(self, x):
        return self.linear(x) + ALPHA / R * (x @ self.a.T) @ self.b.T


def config():
    return LlamaConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
                       vocab_size=VOCAB, max_position_embeddings=32, tie_word_embeddings=False, pad_token_id=PAD, num_labels=1,
                       attn_implementation="sdpa")


def with_adapter(cls, base):
    """The frozen base under its own head or, for values and rewards, a trainable scalar one; with a random adapter."""
    model = cls(config()).double()
    model.model.load_state_dict(base.model.state_dict())
    if cls is LlamaForCausalLM:
        model.lm_head.load_state_dict(base.lm_head.state_dict())
    model.requires_grad_(False)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for target in TARGETS:
                if hasattr(part, target):
                    setattr(part, target, Lora(getattr(part, target)))
    if cls is LlamaForSequenceClassification:
        score = torch.nn.Linear(8, 1).double()
        score.weight.data = torch.randn(1, 8).float().double()
        score.bias.data.zero_()
        score.bias.requires_grad_(False)
        model.score = score
    return model


def adapter(model):
    """Its trainable tensors by PEFT name."""
    tensors = {}
    for i, layer in enumerate(model.model.layers):
        for part in ("self_attn", "mlp"):
            for target in TARGETS:
                lora = getattr(getattr(layer, part), target, None)
                if lora is not None:
                    path = f"base_model.model.model.layers.{i}.{part}.{target}"
                    tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = lora.a, lora.b
    if hasattr(model, "score"):
        tensors["score.weight"] = model.score.weight
    return tensors


def save_adapter(model, name):
    out = os.path.join(HERE, name)
    os.makedirs(out, exist_ok=True)
    save_file({k: v.detach().float().clone() for k, v in adapter(model).items()}, os.path.join(out, "adapter_model.safetensors"))
    with open(os.path.join(out, "adapter_config.json"), "w") as f:
        json.dump(dict(peft_type="LORA", r=R, lora_alpha=ALPHA, target_modules=TARGETS, bias="none"), f)


def population_whiten(values, mask):
    chosen = values[mask]
    white = (chosen - chosen.mean()) * torch.rsqrt(chosen.var(unbiased=False) + 1e-8)
    return torch.zeros_like(values).masked_scatter(mask, white)


RECORD = {"minibatches": []}


def step(trainer, scope):
    """Clips and steps policy and value function each by itself, and notes the minibatch's figures."""
    mask = ~scope["padding_mask"][scope["micro_batch_inds"]]
    mean = lambda x: float(x[mask].mean())
    figures = dict(
        policy_loss=float(scope["pg_loss"]), value_loss=float(scope["vf_loss"]), value_clipped=float(scope["vf_clipfrac"]),
        policy_clipped=mean((scope["pg_losses2"] > scope["pg_losses"]).double()), ratio=mean(scope["ratio"]),
        approx_kl=mean(0.5 * scope["logprobs_diff"] ** 2),
    )
    for name, optimiser in OPTIMISERS.items():
        parameters = optimiser.param_groups[0]["params"]
        figures[f"{name}_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, NORM_MAX))
        optimiser.step()
        optimiser.zero_grad()
    RECORD["minibatches"].append(figures)
    RECORD["mask"] = ~scope["padding_mask"]
    for name in ("logprobs", "ref_logprobs", "values", "scores", "kl", "rewards", "raw_advantages", "returns"):
        RECORD[name] = scope[name].detach()


torch.manual_seed(11)
base = LlamaForCausalLM(config()).double()
with torch.no_grad():
    for name, p in base.named_parameters():
        p.copy_((1 + 0.3 * torch.randn_like(p) if "norm" in name else 1.5 * torch.randn_like(p) / p.shape[1] ** 0.5).float().double())
LlamaForCausalLM.from_pretrained(None, config=config(), state_dict=base.state_dict(), dtype=torch.float32).save_pretrained(
    os.path.join(HERE, "base"))
if os.path.exists(os.path.join(HERE, "base", "generation_config.json")):
    os.remove(os.path.join(HERE, "base", "generation_config.json"))

policy, reference = with_adapter(LlamaForCausalLM, base), with_adapter(LlamaForCausalLM, base)
with torch.no_grad():  # the policy has moved a little from its reference, so that there is a KL
    for mine, theirs in zip(adapter(policy).values(), adapter(reference).values()):
        mine.copy_((theirs + 0.08 * torch.randn_like(theirs)).float().double())
reward = with_adapter(LlamaForSequenceClassification, base)
value = with_adapter(LlamaForSequenceClassification, base)
with torch.no_grad():  # it starts as the reward model
    for mine, theirs in zip(adapter(value).values(), adapter(reward).values()):
        mine.copy_(theirs)
for model, name in ((policy, "policy"), (reference, "reference"), (reward, "reward")):
    save_adapter(model, name)
with open(os.path.join(HERE, "reward", "reward.json"), "w") as f:
    json.dump(dict(mean=REWARD_MEAN, std=REWARD_STD, mean_over="candidates"), f)
with torch.no_grad():  # both speak in units of normalised reward
    for model in (reward, value):
        model.score.weight /= REWARD_STD
        model.score.bias.fill_(-REWARD_MEAN / REWARD_STD)

OPTIMISERS = {
    name: torch.optim.AdamW(list(adapter(model).values()), lr=rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.0)
    for name, model, rate in (("policy", policy, RATE), ("value", value, VALUE_RATE))
}

# TRL's tensors: prompts padded on the left, answers on the right.
context = max(len(p) for p, _ in EPISODES)
longest = max(len(a) for _, a in EPISODES)
rows = [[PAD] * (context - len(p)) + p + a + [PAD] * (longest - len(a)) for p, a in EPISODES]


def fixed_answers(model, queries, *_):
    """In the place of sampling: the fixed answers, and the policy's logits at the sampling temperature."""
    tokens = torch.tensor(rows)
    assert torch.equal(queries, tokens[:, :context])
    logits = ppo_trainer.forward(model, tokens, PAD).logits[:, context - 1 : -1]
    return tokens, logits / (TEMPERATURE + 1e-7)


their_reward = ppo_trainer.get_reward


def read_at_an_end(model, tokens, pad, context_length):
    """hone reads a reward at an end token, and gives one to the answers that have none."""
    if model is not reward:
        return their_reward(model, tokens, pad, context_length)
    closed = torch.cat([tokens, torch.full((len(tokens), 1), pad)], 1)
    for row in closed:
        answer = row[context_length:]
        if EOS not in answer:
            answer[int((answer == pad).nonzero()[0])] = EOS
    closed = torch.cat([closed, torch.full((len(tokens), 1), pad)], 1)
    return their_reward(model, closed, pad, context_length)


source = textwrap.dedent(inspect.getsource(ppo_trainer.PPOTrainer.train))
for old, new in ON_PURPOSE:
    assert source.count(old) == 1, (old, source.count(old))
    source = source.replace(old, new)
ppo_trainer.step, ppo_trainer.population_whiten = step, population_whiten
ppo_trainer.batch_generation, ppo_trainer.get_reward = fixed_answers, read_at_an_end
exec(source, vars(ppo_trainer))
ppo_trainer.PPOTrainer.train = vars(ppo_trainer)["train"]
orders = iter(ORDERS)
np.random.permutation = lambda n: np.array(next(orders))

words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCAB)}, unk_token="0"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=str(PAD), eos_token=str(EOS), padding_side="left")
both = torch.optim.AdamW([p for m in (policy, value) for p in m.parameters() if p.requires_grad], lr=0.0)
trainer = ppo_trainer.PPOTrainer(
    args=PPOConfig(output_dir="/tmp/trl-out", per_device_train_batch_size=len(EPISODES), gradient_accumulation_steps=1,
                   num_mini_batches=len(EPISODES) // MINIBATCH, num_ppo_epochs=len(ORDERS), total_episodes=len(EPISODES),
                   response_length=longest, stop_token="eos", temperature=TEMPERATURE, kl_coef=KL_COEF, kl_estimator="k1",
                   gamma=GAMMA, lam=LAMBDA, cliprange=CLIP, cliprange_value=CLIP_VALUE, vf_coef=VALUE_COEF,
                   missing_eos_penalty=MISSING_EOS_PENALTY, whiten_rewards=False, num_sample_generations=0, report_to="none",
                   save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False),
    processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=value,
    train_dataset=Dataset.from_dict({"input_ids": [r[:context] for r in rows]}),
    data_collator=lambda rows: {"input_ids": torch.tensor([r["input_ids"] for r in rows])},
    optimizers=(both, torch.optim.lr_scheduler.ConstantLR(both, 1.0)),
)
# One batch of all episodes, in their order.
trainer.dataloader = [{"input_ids": torch.tensor([r[:context] for r in rows])}]
trainer.train()

mask = RECORD["mask"]
lists = lambda name: [[float(x) for x in row[keep]] for row, keep in zip(RECORD[name], mask)]
golden = dict(
    eos=EOS, temperature=TEMPERATURE, kl_coef=KL_COEF, gamma=GAMMA, gae_lambda=LAMBDA, clip_ratio=CLIP, clip_value=CLIP_VALUE,
    value_coef=VALUE_COEF, missing_eos_penalty=MISSING_EOS_PENALTY, learning_rate=RATE, value_learning_rate=VALUE_RATE,
    gradient_norm_max=NORM_MAX, minibatch_episodes=MINIBATCH, inner_epochs=len(ORDERS), orders=ORDERS,
    prompts=[p for p, _ in EPISODES], answers=[a for _, a in EPISODES],
    logprobs=lists("logprobs"), reference=lists("ref_logprobs"), values=lists("values"), kl=lists("kl"), rewards=lists("rewards"),
    advantages=lists("raw_advantages"), returns=lists("returns"), scores=[float(x) for x in RECORD["scores"]],
    minibatches=RECORD["minibatches"],
)
with open(os.path.join(HERE, "golden.json"), "w") as f:
    json.dump(golden, f, indent=1)
weights = {f"{name}/{k}": v for name, model in (("policy", policy), ("value", value)) for k, v in adapter(model).items()}
save_file({k: v.detach().float().clone() for k, v in weights.items()}, os.path.join(HERE, "updated.safetensors"))
