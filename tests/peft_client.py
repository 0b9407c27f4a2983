"""The real transformers and PEFT against what hone writes: `python tests/peft_client.py HONE`, in the repository's root.

Takes in the adapters that PEFT made (crates/learn/tests/golden_peft) with `hone policy import`, writes them with `hone policy export`,
loads that folder with PEFT, and compares the logits with those that PEFT had computed when it made the adapter. The Rust test
golden_peft holds hone's own logits against the same numbers, so all three agree. Needs golden_peft/requirements.txt.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TESTS = os.path.join("crates", "learn", "tests")
SEQUENCE = [1, 5, 9, 33, 2, 2, 17]
TOLERANCE = 1e-3


def hone(binary, data, *args):
    done = subprocess.run([binary, "--data", data, "--json", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(binary, data, name, base):
    folder = os.path.join(data, "models", base)
    ignore = shutil.ignore_patterns("adapter*", "expected*")  # transformers would load an adapter beside a model
    shutil.copytree(os.path.join(TESTS, "golden", base), folder, ignore=ignore)
    made = os.path.join(TESTS, "golden_peft", name)
    policy = hone(binary, data, "policy", "import", made, "--base", base)
    out = os.path.join(data, f"exported-{name}")
    hone(binary, data, "policy", "export", policy["id"], out)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        bare = model(torch.tensor([SEQUENCE])).logits[0]
        adapted = PeftModel.from_pretrained(model, out)
        result = adapted.load_adapter(out, adapter_name="again")
        strange = [key for key in result.unexpected_keys + result.missing_keys if "lora" in key]
        assert not strange, strange
        found = adapted.eval()(torch.tensor([SEQUENCE])).logits[0]
        by_name = AutoPeftModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        alone = by_name(torch.tensor([SEQUENCE])).logits[0]
    expected = load_file(os.path.join(made, "expected.safetensors"))["expected"]
    off = max((logits - expected).abs().max().item() for logits in (found, alone))
    assert (bare - expected).abs().max() > 0.1, "an adapter that changes nothing proves nothing"
    assert off < TOLERANCE, f"{name}: logits off by {off}"
    print(f"{name} on {base}: logits off by at most {off:.1e}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data:
        for name, base in (("plain", "llama"), ("rslora", "qwen2")):
            check(os.path.abspath(sys.argv[1]), data, name, base)
