#!/usr/bin/env python3
"""`run.py NAME`: one benchmark of hone's training against its peers, as one line of JSON with the ratio, both sides measured in
turns in one run. README.md says what each measures, how long it takes and what it needs. Standard library only."""
import argparse
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine
from lib.setup import Bench

NAMES = ["sft", "reward", "rollout", "ppo", "curves", "scaling", "peak"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("name", choices=NAMES)
    p.add_argument("--model", help="a Hugging Face Llama folder [default: random weights of SmolLM2-135M's shape]")
    p.add_argument("--python", default=sys.executable, help="the peers' interpreter, with requirements.txt installed")
    p.add_argument("--repeats", type=int, help="turns of each side")
    p.add_argument("--iterations", type=int, help="ppo: measured iterations of each side; curves: iterations of TRL per seed")
    p.add_argument("--seeds", type=int, default=3, help="curves: how many")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a setting of hone's trainer; may be repeated")
    p.add_argument("--cached-peer", action="store_true", help="ppo: the peer's last figures instead of measuring it (the JSON says so)")
    p.add_argument("--report", action="store_true", help="curves: only read what was measured, and compare")
    p.add_argument("--quick", action="store_true", help="a tiny model and little work: does it run? No figure of it means anything")
    p.add_argument("--no-build", action="store_true", help="take bench_worker as it was built last")
    p.add_argument("--cache", default="~/.cache/hone-bench", help="models, data and unfinished curves")
    p.add_argument("--out", help="also write the JSON here")
    a = p.parse_args()
    a.settings = {k: json.loads(v) for k, v in (s.split("=", 1) for s in a.set)}
    return a


def main():
    a = arguments()
    bench = Bench(a)
    peer = None if a.name == "scaling" else a.python
    about = {"benchmark": a.name, **machine.describe(peer), "threads": a.threads, "quick": a.quick, "hone_settings": a.settings,
             "model": a.model or ("random 2x192" if a.quick else "random weights of SmolLM2-135M's shape")}
    found = importlib.import_module(f"claims.{a.name}").run(bench)
    machine.tell({**about, **found}, a.out)


if __name__ == "__main__":
    main()
