#!/usr/bin/env python3
"""Streams that nobody reads beside clients that do: what they change for the others, in turns with and without them; one line of JSON.
README.md says how to run it. Standard library only."""
import argparse
import asyncio
import json
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import load
import machine
from servers import Server, free_port

# More than the buffers of a connection hold: each piece comes with the twenty likeliest tokens.
UNREAD = {"messages": [{"role": "user", "content": "Tell a long story about a harbour."}], "max_tokens": 48, "temperature": 1.0,
          "logprobs": True, "top_logprobs": 20, "stream": True, "store": False}


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hone", default="target/release/hone", help="the binary")
    p.add_argument("--model", required=True, help="base model, a Hugging Face folder")
    p.add_argument("--idle", type=int, default=1000, help="streams that are asked for and not read")
    p.add_argument("--clients", type=int, default=4, help="that do read")
    p.add_argument("--turns", type=int, default=2, help="of each side")
    p.add_argument("--answers", type=int, default=40, help="per turn")
    p.add_argument("--max-tokens", type=int, default=48)
    p.add_argument("--out", help="also write the JSON here")
    return p.parse_args()


def start(a, home):
    data = pathlib.Path(home)
    (data / "models").mkdir()
    shutil.copytree(a.model, data / "models" / "bench")
    key = lambda name: json.loads(subprocess.check_output([a.hone, "--data", data, "--json", "user", "add", name]))["key"]
    keys = key("reader"), key("idler")
    # The bounds that would turn one person's thousandth stream away are lifted: what is asked here is what happens beyond them.
    most = 2 * a.idle + 64
    (data / "hone.toml").write_text(f"[serving]\nrunning_max = 16\nperson_max = {most}\nwaiting_max = {most}\n[limits]\nrequests_per_minute_max = 1000000\n")
    port = free_port()
    command = [a.hone, "--data", data, "--config", data / "hone.toml", "serve", "--base", "bench", "--listen", f"127.0.0.1:{port}"]
    return Server("hone", command, port, keys[0]), keys[1]


def stalled(port, key):
    """A stream that is asked for, with the smallest buffer there is, and not read."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    data = json.dumps(UNREAD).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: hone\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    s.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return s


def computed(port):
    """Waits until no answer is being computed any more."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        if {"hone_num_requests_running 0", "hone_num_requests_waiting 0"} <= set(lines):
            return
        time.sleep(0.5)


def bodies(a, turn):
    text = "Write a few plain sentences about the sea, number"
    return [{"messages": [{"role": "user", "content": f"{text} {turn}-{i}."}], "max_tokens": a.max_tokens, "temperature": 1.0, "seed": i}
            for i in range(a.answers)]


def run(a, server, idler):
    # What each side saw: milliseconds to the first token, between two, and tokens per second of each turn.
    sides = {side: {"first": [], "gaps": [], "speed": []} for side in ("alone", "beside_idle")}
    ask = lambda turn: asyncio.run(load.clients("127.0.0.1", server.port, server.key, bodies(a, turn), a.clients))
    ask("warm")
    memory, unread = {"before": server.rss_mb()}, 0
    for turn in range(a.turns):
        for side, count in (("alone", 0), ("beside_idle", a.idle)):
            streams = [stalled(server.port, idler) for _ in range(count)]
            time.sleep(1 if count else 0)
            computed(server.port)
            answers, seconds = ask(f"{side}-{turn}")
            seen = sides[side]
            seen["first"] += [1000 * answer.first_token_seconds() for answer in answers]
            seen["gaps"] += [1000 * gap for answer in answers for gap in answer.gaps_seconds()]
            seen["speed"].append(sum(answer.tokens for answer in answers) / seconds)
            if streams:
                memory["with_idle"] = server.rss_mb()
                unread = sum(still_open(s) for s in streams)
            for s in streams:
                s.close()
    memory["after"] = server.rss_mb()
    found = {side: figures(**seen) for side, seen in sides.items()}
    alone, beside = found["alone"], found["beside_idle"]
    ratios = {what: {p: round(beside[what][p] / alone[what][p], 3) for p in ("p50", "p99")} for what in ("first_token_ms", "between_tokens_ms")}
    ratios["tokens_per_second"] = round(beside["tokens_per_second"] / alone["tokens_per_second"], 3)
    return {"idle_streams": unread, **found, "ratios": ratios, "rss_mb": memory}


def still_open(s):
    """Whether its answer waits to be read."""
    s.setblocking(False)
    try:
        return bool(s.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def figures(first, gaps, speed):
    at = lambda values: {"p50": load.percentile(values, 0.5), "p99": load.percentile(values, 0.99)}
    return {"first_token_ms": at(first), "between_tokens_ms": at(gaps), "tokens_per_second": sum(speed) / len(speed)}


def main():
    a = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * a.idle + 1024) if most > 0 else 4 * a.idle + 1024, most))
    about = {"benchmark": "idle", **machine.describe(), "model": a.model, "clients": a.clients}
    with tempfile.TemporaryDirectory() as home:
        server, idler = start(a, home)
        try:
            found = run(a, server, idler)
        finally:
            server.stop()
    machine.tell({**about, **found}, a.out)


if __name__ == "__main__":
    main()
