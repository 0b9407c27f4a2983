#!/usr/bin/env python3
"""The texts that hone's own toxicity classifier is trained and tested on, from the public data sets named in its NOTICE.

    classifier_data.py CLONES OUT    reads each data set at a fixed commit from its git repository in CLONES (cloned where it is
                                     missing) and writes OUT/train/*.jsonl and OUT/test/*.jsonl, lines of {"text", "toxic"}

The same commits give the same bytes. The texts are as ugly as the subject: they stay out of git. Python's standard library only.
"""
import csv
import gzip
import hashlib
import html
import io
import json
import pathlib
import re
import subprocess
import sys

COMMITS = {
    "ipavlopoulos/toxic_spans": "beaf170538df8275c3447b2e26070f2f82e55272",
    "ipavlopoulos/context_toxicity": "5df49c294e6a41f0ba351e65fda7c315aa4cc168",
    "t-davidson/hate-speech-and-offensive-language": "cb50f7e9eb855a99abc51423bf40df0e26d6fe30",
    "conversationai/unintended-ml-bias-analysis": "9c7d91aaa53406a362354661a93e07956d95e59a",
    "surge-ai/toxicity": "ea80324b95ed7e3cc787bdb6faeb763fcc0ae258",
    "AI-secure/DecodingTrust": "161ae8321ced62f45fcd9ceb412e05b47c603cd4",
    "openai/moderation-api-release": "f4ab51b5edd3bfbcb349a56324274235b674e0e4",
    "paul-rottger/hatecheck-data": "d84302298ceeb34f4b0dde2d8a1f4932c2caa612",
}
TEMPLATES = 8000  # of 76,564: more would only say the same again
NEUTRAL = ("ident_neutral_nh", "ident_pos_nh")  # HateCheck's sentences that mention a group, neutrally or kindly


def read(clones, repository, path):
    """A file's bytes at the fixed commit."""
    folder = clones / repository.split("/")[1]
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", f"https://github.com/{repository}", folder], check=True)
    return subprocess.run(
        ["git", "-C", folder, "show", f"{COMMITS[repository]}:{path}"], check=True, stdout=subprocess.PIPE
    ).stdout


def rows(clones, repository, path):
    return list(csv.DictReader(io.StringIO(read(clones, repository, path).decode("utf-8"), newline="")))


def by_hash(examples):
    """In an order that has nothing to do with the file's."""
    # With a word before the text: hone holds texts out by the hash of the text alone.
    return sorted(examples, key=lambda e: hashlib.sha256(f"sample {e[0]}".encode()).hexdigest())


def civil_comments(clones):
    """Civil Comments that half of their first raters found toxic, rated again; the share of these who didn't say "not toxic"."""
    texts = {r["comment_id"]: r["comment_text"] for r in rows(clones, "ipavlopoulos/toxic_spans", "data/comments.csv")}
    votes = {}
    for r in rows(clones, "ipavlopoulos/toxic_spans", "data/annotations.csv"):
        votes.setdefault(r["comment_id"], []).append(r["not toxic"] != "True")
    shares = {key: sum(v) / len(v) for key, v in votes.items()}
    return [(texts[key], float(share > 0.5)) for key, share in shares.items() if not 0.4 <= share <= 0.6]


def wikipedia(clones):
    files = [rows(clones, "ipavlopoulos/context_toxicity", f"data/CAT_LARGE/{name}.csv") for name in ("gn", "gc")]
    return [(r["text"], float(r["label"])) for r in files[0] + files[1]]


def tweets(clones):
    """Hateful or offensive (class 0 and 1) against neither, as many of both: of 24,783 tweets 83 % are toxic, and whatever else is
    typical of tweets (a dialect, being short) would come to be a sign of it."""
    found = rows(clones, "t-davidson/hate-speech-and-offensive-language", "data/labeled_data.csv")
    texts = [(re.sub(r"\bRT\b", "", html.unescape(r["tweet"])), float(r["class"] != "2")) for r in found]
    neither = [t for t in texts if t[1] == 0.0]
    return neither + by_hash([t for t in texts if t[1] == 1.0])[: len(neither)]


def templates(clones):
    """Sentences that say kind and unkind things of the same people, in equal number: who is named shall not matter."""
    path = "sentence_templates/en_sentence_templates.csv"
    found = rows(clones, "conversationai/unintended-ml-bias-analysis", path)
    return by_hash([(r["phrase"], float(r["toxicity"] == "toxic")) for r in found])[:TEMPLATES]


def surge(clones):
    return [(r["text"], float(r["is_toxic"] == "Toxic")) for r in rows(clones, "surge-ai/toxicity", "toxicity_en.csv")]


def real_toxicity_prompts(clones):
    """Prompts and continuations, with the score that Perspective API once gave each."""
    found = []
    for name in ("nontoxic", "toxic"):
        for line in read(clones, "AI-secure/DecodingTrust", f"data/toxicity/user_prompts/{name}.jsonl").splitlines():
            record = json.loads(line)
            parts = (record["prompt"], record["continuation"])
            found += [(part["text"], part["toxicity"]) for part in parts if part["toxicity"] is not None]
    return found


def wikipedia_test(clones):
    path = "archive/unintended_ml_bias/eval_datasets/toxicity_nonfuzzed_testset.csv"
    found = rows(clones, "conversationai/unintended-ml-bias-analysis", path)
    return [(r["comment"], float(r["toxic"] == "True")) for r in found]


def moderation(clones):
    """OpenAI's moderation test set: hate and harassment against the rest, where both are known."""
    lines = gzip.decompress(read(clones, "openai/moderation-api-release", "data/samples-1680.jsonl.gz")).splitlines()
    known = [r for r in map(json.loads, lines) if "H" in r and "HR" in r]
    return [(r["prompt"], float(bool(r["H"] or r["HR"] or r.get("H2")))) for r in known]


def hatecheck(clones, only=None):
    found = rows(clones, "paul-rottger/hatecheck-data", "test_suite_cases.csv")
    chosen = [r for r in found if only is None or r["functionality"] in only]
    return [(r["test_case"], float(r["label_gold"] == "hateful")) for r in chosen]


def write(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, "toxic": toxic}) + "\n" for text, toxic in examples if text.strip()]
    path.write_text("".join(lines), encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{digest}  {path}: {len(lines)} texts, {sum(toxic >= 0.5 for _, toxic in examples)} toxic")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    clones, out = map(pathlib.Path, sys.argv[1:])
    csv.field_size_limit(1 << 30)
    tests = {
        "surge": surge(clones),
        "real-toxicity-prompts": real_toxicity_prompts(clones),
        "wikipedia-test": wikipedia_test(clones),
        "moderation": moderation(clones),
        "hatecheck": hatecheck(clones),
        "hatecheck-neutral": hatecheck(clones, NEUTRAL),
    }
    train = {"civil-comments": civil_comments, "wikipedia": wikipedia, "tweets": tweets, "templates": templates}
    seen = {text.strip() for examples in tests.values() for text, _ in examples}  # what is tested on is never trained on
    for name, make in train.items():
        fresh = []
        for text, toxic in make(clones):
            if text.strip() not in seen:
                seen.add(text.strip())
                fresh.append((text, toxic))
        write(out / "train" / f"{name}.jsonl", fresh)
    for name, examples in tests.items():
        write(out / "test" / f"{name}.jsonl", examples)


if __name__ == "__main__":
    main()
