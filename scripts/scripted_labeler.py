#!/usr/bin/env python3
"""A labeler that is a rule, for trying the loop by hand: it likes short, finished answers.

    scripted_labeler.py rerank FILE.jsonl ...            > rankings.jsonl    rank the candidates of existing files by the rule
    scripted_labeler.py compare PROMPTS.jsonl [--n 20]                       ask a running server for k answers each, and rank them
    scripted_labeler.py judge RUN/artifact/report.json                       win rate of new over old answers under the rule

`rerank` writes what `hone data import` reads. `compare` and nothing else talks to a server (HONE_URL, HONE_KEY).
Python's standard library only.
"""
import argparse
import json
import math
import os
import sys
import urllib.request

WORDS_MIN = 5  # below it an answer says nothing
WORDS_MAX = 120  # candidates beyond it are left out: they only cost time here


def words(answer):
    return len(answer.split())


def rule(answer):
    """Higher is better. Finished answers first, then the shorter one, in steps of 5 words; a stub is worst of all."""
    if words(answer) < WORDS_MIN:
        return -1000
    finished = answer.rstrip().endswith((".", "!", "?", '"', ")"))
    return (0 if finished else -100) - words(answer) // 5


def ranks(answers):
    """0 = best; equal = tie."""
    order = sorted({rule(a) for a in answers}, reverse=True)
    return [order.index(rule(a)) for a in answers]


def rows(paths):
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def prompt_of(row):
    messages = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def rerank(args):
    for i, row in enumerate(rows(args.files)):
        candidates = [c for c in dict.fromkeys(row["candidates"]) if 0 < words(c) <= WORDS_MAX][:9]
        if len(candidates) < 2 or len(set(ranks(candidates))) < 2:
            continue
        out = {"messages": prompt_of(row), "candidates": candidates, "ranks": ranks(candidates), "labeler": f"rule-{i % 10}"}
        print(json.dumps(out, ensure_ascii=False))


def call(path, body):
    request = urllib.request.Request(
        os.environ.get("HONE_URL", "http://127.0.0.1:8080") + path,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": "Bearer " + os.environ["HONE_KEY"]},
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def compare(args):
    for i, row in enumerate(list(rows([args.prompts]))[args.skip : args.skip + args.n]):
        comparison = call("/v1/comparisons", {"messages": prompt_of(row), "k": args.k, "max_tokens": args.max_tokens})
        candidates = comparison["candidates"]
        places = ranks([c["content"] for c in candidates])
        tiers = [[c["id"] for c, p in zip(candidates, places) if p == place] for place in sorted(set(places))]
        call(f"/v1/comparisons/{comparison['id']}/ranking", {"ranking": tiers})
        print(f"{i + 1}: {len(candidates)} answers of {[words(c['content']) for c in candidates]} words", file=sys.stderr)


def sign_test(wins, losses):
    """Two-sided exact p-value of `wins` against `losses` under a fair coin."""
    n = wins + losses
    tail = sum(math.comb(n, i) for i in range(max(wins, losses), n + 1)) / 2**n if n else 1.0
    return min(1.0, 2 * tail)


def judge(args):
    with open(args.report, encoding="utf-8") as file:
        samples = json.load(file)["report"]["samples"]
    wins = sum(rule(s["new"]) > rule(s["old"]) for s in samples)
    losses = sum(rule(s["new"]) < rule(s["old"]) for s in samples)
    mean = lambda key: sum(words(s[key]) for s in samples) / len(samples)
    print(
        json.dumps(
            {
                "prompts": len(samples),
                "wins": wins,
                "losses": losses,
                "ties": len(samples) - wins - losses,
                "win_rate": (wins + 0.5 * (len(samples) - wins - losses)) / len(samples),
                "sign_test_p": sign_test(wins, losses),
                "words_old": mean("old"),
                "words_new": mean("new"),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("rerank")
    p.add_argument("files", nargs="+")
    p.set_defaults(run=rerank)
    p = commands.add_parser("compare")
    p.add_argument("prompts")
    p.add_argument("--n", type=int, default=20)
    p.add_argument("--skip", type=int, default=0)
    p.add_argument("--k", type=int, default=4)
    p.add_argument("--max-tokens", type=int, default=48)
    p.set_defaults(run=compare)
    p = commands.add_parser("judge")
    p.add_argument("report")
    p.set_defaults(run=judge)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
