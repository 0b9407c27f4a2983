"""Makes the golden numbers in this folder: lm-evaluation-harness (0.4.13) on hone's tiny random base, item by item.

    cargo run --example tiny_base -- /tmp/tiny
    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py /tmp/tiny

The harness's own tasks run as installed; only the data set, which it would download, is a file of this folder. With another base's folder
and files as further arguments it prints the same figures for them and writes nothing:

    venv/bin/python make.py BASE mc_questions.jsonl crows_pairs.jsonl
"""

import json
import os
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
import lm_eval
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

HERE = os.path.dirname(os.path.abspath(__file__))
TASKS = {
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "crows_pairs_english": "crows_pairs/crows_pairs_english.yaml",
}


def tasks(questions, pairs, folder):
    """The harness's own task files, with a local data set, under a name of our own."""
    for name, path in TASKS.items():
        source = os.path.join(os.path.dirname(lm_eval.__file__), "tasks", path)
        shutil.copy(os.path.join(os.path.dirname(source), "utils.py"), os.path.join(folder, f"{name}_utils.py"))
        if name == "truthfulqa_mc2":
            shutil.copy(os.path.join(os.path.dirname(source), "truthfulqa_mc1.yaml"), folder)
        text = open(source).read().replace("!function utils.", f"!function {name}_utils.").replace(f"task: {name}", f"task: local_{name}")
        lines = [line for line in text.splitlines() if not line.startswith(("dataset_path", "dataset_name"))]
        split = "test" if name == "crows_pairs_english" else "validation"
        data = {split: os.path.abspath(pairs if name == "crows_pairs_english" else questions)}
        lines += ["dataset_path: json", "dataset_name: null", f"dataset_kwargs: {json.dumps({'data_files': data})}"]
        open(os.path.join(folder, f"local_{name}.yaml"), "w").write("\n".join(lines) + "\n")


def harness(base, questions, pairs):
    """Figures, and each item's log-likelihoods, by task."""
    with tempfile.TemporaryDirectory() as folder:
        tasks(questions, pairs, folder)
        manager = TaskManager(include_path=folder, include_defaults=False)
        model = HFLM(pretrained=base, dtype="float32", device="cpu", batch_size=1)
        names = [f"local_{name}" for name in TASKS]
        found = lm_eval.simple_evaluate(model=model, tasks=names, task_manager=manager, log_samples=True, bootstrap_iters=0)
    result = {}
    for name in TASKS:
        figures = {k.split(",")[0]: v for k, v in found["results"][f"local_{name}"].items() if isinstance(v, float)}
        samples = sorted(found["samples"][f"local_{name}"], key=lambda s: s["doc_id"])
        logs = [[float(r[0]) for r in s["filtered_resps"]] for s in samples]
        kept = ("acc", "likelihood_diff", "pct_stereotype")
        result[name] = {"figures": figures, "items": [{"logs": l, **{k: float(s[k]) for k in kept if k in s}} for l, s in zip(logs, samples)]}
    return result


def with_context(base, context, folder):
    shutil.copytree(base, folder)
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["max_position_embeddings"] = context
    json.dump(config, open(path, "w"))
    return folder


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(harness(*sys.argv[1:4])))
        sys.exit()
    golden = {}
    with tempfile.TemporaryDirectory() as home:
        # In 256 tokens the six answered questions are cut, in 1024 they fit.
        for context in (256, 1024):
            base = with_context(sys.argv[1], context, os.path.join(home, str(context)))
            golden[str(context)] = harness(base, os.path.join(HERE, "questions.jsonl"), os.path.join(HERE, "pairs.jsonl"))
    with open(os.path.join(HERE, "golden.json"), "w") as out:
        json.dump(golden, out, indent=1)
        out.write("\n")
