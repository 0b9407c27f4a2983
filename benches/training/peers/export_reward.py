"""hone's reward model as a LlamaForSequenceClassification folder: base + LoRA merged, the score head divided by the normalisation's
deviation, and the constant that is left in score_bias.json (that class has no bias). Needs torch and transformers."""
import json
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification


def main():
    with open(sys.argv[1]) as text:
        it = json.load(text)
    model = AutoModelForSequenceClassification.from_pretrained(it["model"], num_labels=1, dtype=torch.float32)
    adapter = load_file(f"{it['adapter']}/adapter_model.safetensors")
    with open(f"{it['adapter']}/adapter_config.json") as text:
        config = json.load(text)
    with open(f"{it['adapter']}/reward.json") as text:
        normalisation = json.load(text)
    weights = model.state_dict()
    with torch.no_grad():
        for name, a in adapter.items():
            if name.endswith(".lora_A.weight"):
                b = adapter[name.replace("lora_A", "lora_B")]
                weights[name.removeprefix("base_model.model.").replace(".lora_A", "")] += config["lora_alpha"] / config["r"] * b @ a
        score = next(w for n, w in adapter.items() if n.endswith("score.weight"))
        weights["score.weight"].copy_(score / normalisation["std"])
    model.config.pad_token_id = it["pad_id"]
    model.save_pretrained(it["out"])
    with open(f"{it['out']}/score_bias.json", "w") as out:
        json.dump(-normalisation["mean"] / normalisation["std"], out)


main()
