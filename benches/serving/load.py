"""Streaming clients of an OpenAI-compatible server, and what they saw. Standard library only."""
import asyncio
import json
import time


class Answer:
    """One streamed answer: when it was asked for, when its pieces came, how many tokens it has, its text, and which policy's it is."""

    def __init__(self):
        self.asked, self.pieces, self.tokens, self.text, self.policy = time.perf_counter(), [], None, "", None

    def first_token_seconds(self):
        return self.pieces[0] - self.asked

    def gaps_seconds(self):
        return [b - a for a, b in zip(self.pieces, self.pieces[1:])]


async def stream(host, port, key, body):
    """Asks, and reads to the end. Raises on anything but a whole answer with its usage."""
    answer = Answer()
    reader, writer = await asyncio.open_connection(host, port)
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{status!r} {(await reader.read(2000))!r}")
    done = False
    async for line in reader:
        line = line.strip()
        if line == b"data: [DONE]":
            done = True
        elif line.startswith(b"data: "):
            chunk = json.loads(line[6:])
            if answer.policy not in (None, chunk.get("system_fingerprint")):
                raise RuntimeError(f"an answer of {answer.policy} and {chunk['system_fingerprint']}")
            answer.policy = chunk.get("system_fingerprint")
            text = "".join(c["delta"].get("content") or "" for c in chunk.get("choices", []))
            if text:
                answer.text += text
                answer.pieces.append(time.perf_counter())
            if chunk.get("usage"):
                answer.tokens = chunk["usage"]["completion_tokens"]
    writer.close()
    if not done or answer.tokens is None or not answer.pieces:
        raise RuntimeError("the stream ended early")
    return answer


async def clients(host, port, key, bodies, count):
    """`count` clients that each ask one thing after the other until all `bodies` are answered. The answers, and the seconds."""
    left, answers = list(reversed(bodies)), []

    async def client():
        while left:
            answers.append(await stream(host, port, key, left.pop()))

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(count)))
    return answers, time.perf_counter() - begun


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def measure(host, port, key, bodies, count):
    """Tokens per second, and milliseconds to the first token and between two."""
    answers, seconds = asyncio.run(clients(host, port, key, bodies, count))
    first = [1000 * a.first_token_seconds() for a in answers]
    gaps = [1000 * gap for a in answers for gap in a.gaps_seconds()]
    tokens = sum(a.tokens for a in answers)
    return {"tokens_per_second": tokens / seconds, "tokens": tokens, "seconds": seconds,
            "first_token_ms": {"p50": percentile(first, 0.5), "p99": percentile(first, 0.99)},
            "between_tokens_ms": {"p50": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99)}}
