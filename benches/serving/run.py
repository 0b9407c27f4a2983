#!/usr/bin/env python3
"""Streaming clients against hone's engines and, where given, llama.cpp's server, in turns in one run; one line of JSON with the
ratios. README.md says how to run it. Standard library only."""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import load
import machine
from servers import Server, free_port

TOPICS = ["the sea", "a lighthouse", "bread", "the moon", "a small town", "winter", "a violin", "the desert", "rain", "a garden",
          "an old map", "a bridge", "bees", "a night train", "salt", "a mountain hut"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hone", default="target/release/hone", help="the binary")
    p.add_argument("--model", required=True, help="base model, a Hugging Face folder")
    p.add_argument("--engines", default="native", help="of hone, by comma: native, mistral")
    p.add_argument("--base-format", help="of hone's native engine: f32, bf16 or q8_0 [default: as published]")
    p.add_argument("--llama-server", help="llama.cpp's llama-server, for comparison")
    p.add_argument("--gguf", help="the same model for it, in the number format that is compared")
    p.add_argument("--clients", default="1,4,16", help="streaming clients at once")
    p.add_argument("--turns", type=int, default=3, help="of each side; a shorter one before them isn't counted")
    p.add_argument("--answers", type=int, default=8, help="per client and turn, at least 8 in all")
    p.add_argument("--max-tokens", type=int, default=64)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", help="also write the JSON here")
    return p.parse_args()


def start_hone(a, engine, home):
    data = home / engine
    (data / "models").mkdir(parents=True)
    shutil.copytree(a.model, data / "models" / "bench")
    added = subprocess.run([a.hone, "--data", data, "--json", "user", "add", "bench"], check=True, capture_output=True, text=True)
    port = free_port()
    (data / "hone.toml").write_text("[serving]\nrunning_max = 16\n[limits]\nrequests_per_minute_max = 100000\n")
    command = [a.hone, "--data", data, "--config", data / "hone.toml", "serve", "--base", "bench", "--engine", engine,
               "--listen", f"127.0.0.1:{port}", *(["--base-format", a.base_format] if a.base_format else [])]
    return Server(f"hone-{engine}", command, port, json.loads(added.stdout)["key"])


def start_llama(a):
    port = free_port()
    command = [a.llama_server, "-m", a.gguf, "--port", str(port), "-t", str(a.threads), "-np", "16", "-c", str(16 * 512), "--jinja"]
    return Server("llama.cpp", command, port, "none")


def bodies(a, count, turn):
    """Chats of a paragraph; no two alike, so that no side answers from memory."""
    def body(i):
        text = f"Write a few sentences about {TOPICS[i % len(TOPICS)]} for somebody who has never seen it, number {count}-{turn}-{i}. Be plain and kind."
        return {"messages": [{"role": "user", "content": text}], "max_tokens": a.max_tokens, "temperature": 1.0, "seed": i, "model": "champion"}
    return [body(i) for i in range(max(8, count * a.answers))]


def main():
    a = arguments()
    about = {"benchmark": "serving", **machine.describe(), "model": a.model, "base_format": a.base_format, "threads": a.threads, "gguf": a.gguf}
    counts = [int(c) for c in a.clients.split(",")]
    with tempfile.TemporaryDirectory() as home:
        servers = [start_hone(a, engine, pathlib.Path(home)) for engine in a.engines.split(",")]
        servers += [start_llama(a)] if a.llama_server else []
        try:
            found = {str(count): compare(a, servers, count) for count in counts}
            sides = {s.name: {"start_seconds": round(s.start_seconds, 2), "peak_rss_mb": s.peak_rss_mb()} for s in servers}
        finally:
            for server in servers:
                server.stop()
    machine.tell({**about, "sides": sides, "by_clients": found}, a.out)


def compare(a, servers, count):
    turns = {s.name: [] for s in servers}
    for turn in range(a.turns + 1):
        for s in servers:
            asked = bodies(a, count, turn)
            asked = asked[: max(count, 2)] if turn == 0 else asked
            figures = load.measure("127.0.0.1", s.port, s.key, asked, count)
            if turn > 0:
                turns[s.name].append(figures)
                print(f"{count} clients, {s.name}: {figures}", file=sys.stderr, flush=True)
    speed = {name: statistics.median(t["tokens_per_second"] for t in all) for name, all in turns.items()}
    first = {name: statistics.median(t["first_token_ms"]["p50"] for t in all) for name, all in turns.items()}
    names = list(turns)
    ratios = {f"{names[0]} / {other}": {"tokens_per_second": round(speed[names[0]] / speed[other], 3),
                                        "first_token_ms": round(first[names[0]] / first[other], 3)} for other in names[1:]}
    return {"tokens_per_second": speed, "first_token_ms_p50": first, "ratios": ratios, "turns": turns}


if __name__ == "__main__":
    main()
