"""PPO by TRL 1.12.0, one iteration per turn. Policy: LoRA r = 16, alpha = 32 on the seven linears (peft); reference: adapter off;
value model: trained in full from the reward model; float32, no gradient checkpointing (which would only slow it), SDPA.
Needs trl 1.12.0 (requirements-trl.txt)."""
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

import common
import trl_scorer

it = common.spec()
batch, minibatches = it["batch_episodes"], it["batch_episodes"] // it["minibatch_episodes"]
texts = common.ids(it)

tokenizer = AutoTokenizer.from_pretrained(it["model"], padding_side="left")
# The end token must not be the padding: TRL masks whatever equals the padding.
tokenizer.pad_token = tokenizer.convert_ids_to_tokens(it["pad_id"])
tokenizer.eos_token = tokenizer.convert_ids_to_tokens(texts["eos_ids"][0])
reward_model = trl_scorer.load(it["reward"])
ppo_trainer.get_reward = trl_scorer.closed(reward_model, texts["eos_ids"])
phases = {}


def timed(name, call):
    def timed_call(*args, **kwargs):
        start = time.perf_counter()
        out = call(*args, **kwargs)
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - start
        return out

    return timed_call


ppo_trainer.batch_generation = timed("seconds/rollout", ppo_trainer.batch_generation)


class TakeTurns(TrainerCallback):
    """Waits for its turn after every iteration, its figures told."""

    def __init__(self):
        self.metrics = {}

    def on_log(self, args, state, control, logs=None, **_):
        self.metrics = {k: v for k, v in (logs or {}).items() if isinstance(v, (int, float))}

    def on_step_end(self, args, state, control, **_):
        turns.next(step=state.global_step, metrics={**self.metrics, **phases})
        phases.clear()


trainer = PPOTrainer(
    # One micro-batch holds a whole minibatch: accelerate steps once per gradient_accumulation_steps, so that 1 gives an AdamW step
    # for each of the minibatches of each epoch.
    args=PPOConfig(
        output_dir=it["run_dir"], seed=it["seed"], use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
        disable_tqdm=True, save_strategy="no", num_sample_generations=0, logging_steps=1,
        per_device_train_batch_size=batch, gradient_accumulation_steps=1, num_mini_batches=minibatches,
        total_episodes=it["iterations"] * batch, num_ppo_epochs=it["inner_epochs"], response_length=it["max_new_tokens"],
        stop_token="eos", temperature=1.0, learning_rate=it["learning_rate"], lr_scheduler_type=it["lr_scheduler_type"],
        kl_coef=it["kl_coef"], vf_coef=0.1, gamma=1.0, lam=0.95, cliprange=0.2, cliprange_value=0.2, missing_eos_penalty=None,
    ),
    processing_class=tokenizer,
    model=common.load(AutoModelForCausalLM, it["model"]),
    ref_model=None,
    reward_model=reward_model,
    value_model=trl_scorer.load(it["reward"]),
    train_dataset=Dataset.from_dict({"input_ids": texts["prompts"]}),
    eval_dataset=Dataset.from_dict({"input_ids": texts["prompts"][:1]}),
    callbacks=[TakeTurns()],
    peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=common.LORA_TARGETS, task_type="CAUSAL_LM"),
)
turns = common.Turns(it.get("free", False))
trainer.train()
