"""Makes the golden numbers in this folder: tiny random models of each family, a LoRA adapter on each, and what PyTorch computes.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

Everything is computed in float64, as far as transformers lets it (it does RMSNorm and rotary tables in float32). The adapter
is applied as W + (alpha / r) B A by `torch.func.functional_call`, so no LoRA library stands between.
"""

import json
import os

import torch
from safetensors.torch import save_file
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
R, ALPHA, TEMPERATURE = 3, 5.0, 0.7
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEQUENCES = [[1, 5, 9, 33, 2, 2, 17], [4, 39, 0, 8, 8]]

SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
             vocab_size=40, max_position_embeddings=64, attn_implementation="eager")
SMALL = dict(SIZES, hidden_size=8, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12)
# A head width that is not hidden / heads, and Llama 3's stretched rotary frequencies.
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=6, rope_parameters=LLAMA3, rms_norm_eps=1e-5,
                                            tie_word_embeddings=False), torch.float32, "5GB"),
    # Biases on q, k and v; a tied head; bf16 in several shards.
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, rope_theta=1e6, tie_word_embeddings=True), torch.bfloat16, "4KB"),
    # Frequencies divided by a factor; a tied head.
    "llama_linear": (LlamaForCausalLM, LlamaConfig(
        **SMALL, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.5), tie_word_embeddings=True),
        torch.float32, "5GB"),
    # A head width that is not hidden / heads.
    "mistral": (MistralForCausalLM, MistralConfig(**SMALL, head_dim=6, sliding_window=None), torch.float32, "5GB"),
    # A token sees itself and the two before it, in every block or (Qwen2) in the upper one.
    "mistral_window": (MistralForCausalLM, MistralConfig(**SMALL, sliding_window=3), torch.float32, "5GB"),
    "qwen2_window": (Qwen2ForCausalLM, Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=3, max_window_layers=1),
                     torch.float32, "5GB"),
}


def randomise(model, dtype):
    """Weights of a size that makes every part matter, rounded to what the file can hold."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.5 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) / p.shape[1] ** 0.5)
            p.copy_(p.to(dtype).double())


def make(name, cls, config, dtype, shard_size):
    torch.manual_seed(7)
    model = cls(config).double().eval()
    randomise(model, dtype)
    out = os.path.join(HERE, name)
    os.makedirs(out, exist_ok=True)
    cls.from_pretrained(None, config=config, state_dict=model.state_dict(), dtype=dtype).save_pretrained(
        out, max_shard_size=shard_size)

    lora = {}
    for path, p in model.named_parameters():
        if path.split(".")[-2] in TARGETS and path.endswith("weight"):
            key = "base_model.model." + path.removesuffix(".weight")
            for part, shape in (("A", (R, p.shape[1])), ("B", (p.shape[0], R))):
                x = (torch.randn(shape) / shape[1] ** 0.5).float().double().requires_grad_()
                lora[f"{key}.lora_{part}.weight"] = x
    score = torch.randn(1, config.hidden_size).float().double().requires_grad_()

    effective = {}
    for path, p in model.named_parameters():
        key = "base_model.model." + path.removesuffix(".weight")
        if f"{key}.lora_A.weight" in lora:
            a, b = lora[f"{key}.lora_A.weight"], lora[f"{key}.lora_B.weight"]
            effective[path] = p.detach() + ALPHA / R * b @ a

    expected, loss = {}, 0.0
    for i, tokens in enumerate(SEQUENCES):
        ids = torch.tensor([tokens])
        result = torch.func.functional_call(model, effective, (ids,), dict(output_hidden_states=True))
        hidden, logits = result.hidden_states[-1][0], result.logits[0]
        log_p = torch.log_softmax(logits / TEMPERATURE, -1)
        chosen = log_p[:-1].gather(1, ids[0, 1:, None])[:, 0]
        weight = torch.randn(len(tokens) - 1).float().double()
        values = hidden @ score[0]
        loss = loss + (weight * chosen).sum() + 0.3 * values[-1]
        for key, value in dict(logits=logits, logprobs=chosen, entropy=-(log_p.exp() * log_p).sum(-1)[:-1],
                               hidden=hidden, weight=weight, score=values[-1:]).items():
            expected[f"{key}.{i}"] = value.detach().float().contiguous()
    loss.backward()
    for key, value in {**lora, "score.weight": score}.items():
        expected["grad." + key] = value.grad.float().contiguous()

    save_file({k: v.detach().float() for k, v in {**lora, "score.weight": score}.items()},
              os.path.join(out, "adapter_model.safetensors"))
    with open(os.path.join(out, "adapter_config.json"), "w") as f:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", r=R, lora_alpha=ALPHA, target_modules=TARGETS,
                       bias="none"), f)
    save_file(expected, os.path.join(out, "expected.safetensors"))
    if os.path.exists(os.path.join(out, "generation_config.json")):
        os.remove(os.path.join(out, "generation_config.json"))


for name, arguments in MODELS.items():
    make(name, *arguments)
