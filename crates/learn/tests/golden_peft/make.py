"""Makes the golden adapters in this folder: the PEFT library's own files, with its default key names, on the tiny models of
../golden, and the logits (of the reward model: the score) that it computes with them.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

`plain` is a LoRA as most are; `rslora` scales by alpha / sqrt(r), is in bf16 and covers two linears of one block; `reward` is a
sequence classifier with one label, whose head PEFT keeps under modules_to_save.
"""

import os
import shutil
import tempfile

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

HERE = os.path.dirname(os.path.abspath(__file__))
SEQUENCE = [1, 5, 9, 33, 2, 2, 17]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def randomise(model):
    """B starts at zero, which would prove nothing."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name or "score" in name:
                p.copy_(torch.randn_like(p) / 3)


def make(name, base, cls, config, dtype, read):
    torch.manual_seed(3)
    with tempfile.TemporaryDirectory() as alone:  # an adapter beside a model would be loaded with it
        shutil.copytree(os.path.join(HERE, "..", "golden", base), alone, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("adapter*", "expected*"))
        model = cls.from_pretrained(alone, dtype=torch.float32)
    model = get_peft_model(model, config).eval()
    model.peft_config["default"].base_model_name_or_path = base
    randomise(model)
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.to(dtype).float()  # what the file can hold
    out = os.path.join(HERE, name)
    shutil.rmtree(out, ignore_errors=True)
    with torch.no_grad():
        expected = read(model, torch.tensor([SEQUENCE])).contiguous()
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.to(dtype)
    model.save_pretrained(out)
    os.remove(os.path.join(out, "README.md"))
    save_file({"expected": expected}, os.path.join(out, "expected.safetensors"))


def score(model, ids):
    """The head at the last token."""
    return model(ids).logits[0]


def logits(model, ids):
    return model(ids).logits[0]


plain = LoraConfig(r=4, lora_alpha=6, target_modules=ALL, task_type=TaskType.CAUSAL_LM)
rslora = LoraConfig(r=4, lora_alpha=3, target_modules=["q_proj", "down_proj"], layers_to_transform=[1], use_rslora=True,
                    task_type=TaskType.CAUSAL_LM)
reward = LoraConfig(r=2, lora_alpha=4, target_modules=ALL, task_type=TaskType.SEQ_CLS)
make("plain", "llama", AutoModelForCausalLM, plain, torch.float32, logits)
make("rslora", "qwen2", AutoModelForCausalLM, rslora, torch.bfloat16, logits)


class OneLabel:
    """A reward model: one label, and a pad token that it insists on."""

    @staticmethod
    def from_pretrained(path, dtype):
        return AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype, num_labels=1, pad_token_id=0)


make("reward", "llama", OneLabel, reward, torch.float32, score)
