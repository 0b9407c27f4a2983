#!/usr/bin/env python3
"""Swaps under load: streaming clients saturate a hone whose champion changes back and forth, in turns with the same load without
swaps; one line of JSON. Every answer is compared with what its policy answers alone. README.md says how to run it. Standard library only."""
import argparse
import asyncio
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import load
import machine
from servers import Server, free_port

TOPICS = ["the sea", "a lighthouse", "bread", "the moon", "winter", "a violin", "rain", "bees"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hone", default="target/release/hone", help="the binary")
    p.add_argument("--data", required=True, help="a data folder with a champion and an earlier one; a copy of it is used")
    p.add_argument("--base", required=True, help="their base model's name")
    p.add_argument("--engine", default="native")
    p.add_argument("--swaps", type=int, default=1000, help="in all turns together")
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--turns", type=int, default=4, help="with swaps, and as many without")
    p.add_argument("--turn-seconds", type=float, default=30)
    p.add_argument("--max-tokens", type=int, default=24)
    p.add_argument("--out", help="also write the JSON here")
    return p.parse_args()


class Hone:
    """A server over a copy of the data folder, its keys, and the two policies."""

    def __init__(self, a, home):
        data = pathlib.Path(home) / "data"
        shutil.copytree(a.data, data, ignore=shutil.ignore_patterns("*.lock", "checkpoints"))
        command = [a.hone, "--data", data, "--json"]
        listed = json.loads(subprocess.check_output([*command, "policy", "list"]))["policies"]
        self.policies = [p["id"] for p in listed if p["state"] in ("champion", "retired") and p["base_name"] == a.base][:2]
        if len(self.policies) < 2:
            raise SystemExit(f"{a.data} has no two policies that were champions on {a.base}")
        key = lambda role: json.loads(subprocess.check_output([*command, "user", "add", f"bench-{role}", "--role", role]))["key"]
        self.user, self.operator = key("user"), key("operator")
        (data / "hone.toml").write_text("[limits]\nrequests_per_minute_max = 1000000\n")
        port = free_port()
        serve = [a.hone, "--data", data, "--config", data / "hone.toml", "serve", "--base", a.base, "--engine", a.engine,
                 "--listen", f"127.0.0.1:{port}"]
        self.server = Server("hone", serve, port, self.user)

    def promote(self, policy):
        """Makes it the champion. Answers the seconds it took."""
        url = f"http://127.0.0.1:{self.server.port}/v1/policies/{policy}/promote"
        request = urllib.request.Request(url, b"{}", {"Authorization": f"Bearer {self.operator}", "Content-Type": "application/json"})
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert json.load(reply)["state"] == "champion"
        return time.perf_counter() - begun


def body(a, topic):
    text = f"Write a few plain sentences about {topic}."
    return {"messages": [{"role": "user", "content": text}], "max_tokens": a.max_tokens, "temperature": 0, "model": "champion", "store": False}


def connect(hone):
    return load.Connection("127.0.0.1", hone.server.port, hone.user)


async def turn(a, hone, expected, swaps):
    """All clients for a while, with so many swaps spread over it."""
    until, answers, swap_seconds = time.perf_counter() + a.turn_seconds, [], []

    async def client(place):
        asked, connection = place, connect(hone)
        while time.perf_counter() < until:
            topic = TOPICS[asked % len(TOPICS)]
            answer = await connection.stream(body(a, topic))
            if answer.text != expected[answer.policy, topic]:
                raise RuntimeError(f"{answer.policy} alone answers {expected[answer.policy, topic]!r}, not {answer.text!r}")
            answers.append(answer)
            asked += 1
        connection.close()

    async def swapper():
        begun = time.perf_counter()
        for i in range(swaps):
            await asyncio.sleep(max(0, begun + i * a.turn_seconds / swaps - time.perf_counter()))
            swap_seconds.append(await asyncio.to_thread(hone.promote, hone.policies[i % 2]))

    await asyncio.gather(swapper(), *(client(i) for i in range(a.clients)))
    return answers, swap_seconds


def figures(answers, seconds):
    first = [1000 * answer.first_token_seconds() for answer in answers]
    tokens = sum(answer.tokens for answer in answers)
    return {"answers": len(answers), "tokens_per_second": tokens / seconds,
            "first_token_ms": {"p50": load.percentile(first, 0.5), "p99": load.percentile(first, 0.99)}}


def run(a, hone):
    expected = {}
    for policy in hone.policies:
        hone.promote(policy)
        for topic in TOPICS:
            answer = asyncio.run(connect(hone).stream(body(a, topic)))
            expected[answer.policy, topic] = answer.text
    asyncio.run(turn(a, hone, expected, 2))  # warm
    before = hone.server.rss_mb()
    sides = {"steady": [], "swapping": []}
    swap_seconds = []
    for _ in range(a.turns):
        for side, swaps in (("steady", 0), ("swapping", a.swaps // a.turns)):
            answers, took = asyncio.run(turn(a, hone, expected, swaps))
            sides[side] += answers
            swap_seconds += took
    found = {side: figures(answers, a.turns * a.turn_seconds) for side, answers in sides.items()}
    by_policy = {policy: sum(answer.policy == policy for answer in sides["swapping"]) for policy in hone.policies}
    p99 = {side: found[side]["first_token_ms"]["p99"] for side in found}
    swap_ms = [1000 * seconds for seconds in swap_seconds]
    return {"swaps": len(swap_seconds), "answers_by_policy_while_swapping": by_policy, **found,
            "first_token_p99_ratio": round(p99["swapping"] / p99["steady"], 3),
            "swap_ms": {"p50": load.percentile(swap_ms, 0.5), "p99": load.percentile(swap_ms, 0.99), "max": max(swap_ms)},
            "rss_mb": {"before": before, "after": hone.server.rss_mb(), "peak": hone.server.peak_rss_mb()}}


def main():
    a = arguments()
    about = {"benchmark": "swap", **machine.describe(), "engine": a.engine, "clients": a.clients}
    with tempfile.TemporaryDirectory() as home:
        hone = Hone(a, home)
        try:
            # Whatever fails, is cut short or mixed raises: then there is no JSON.
            found = run(a, hone)
        finally:
            hone.server.stop()
    machine.tell({**about, **found}, a.out)


if __name__ == "__main__":
    main()
