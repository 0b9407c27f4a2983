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


class Connection:
    """A client's connection, kept from one answer to the next as OpenAI's clients keep theirs, where the server allows it."""

    def __init__(self, host, port, key):
        self.host, self.port, self.key, self.reader, self.writer = host, port, key, None, None

    async def stream(self, body):
        """Asks, and reads to the end. Raises on anything but a whole answer with its usage."""
        answer = Answer()
        data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        keeps = await self.begin(data)
        done = False
        async for line in self.reader:
            line = line.strip()
            if line == b"data: [DONE]":
                done = True
            elif line == b"0":  # the last chunk
                await self.reader.readline()
                break
            elif line.startswith(b"data: "):
                take(answer, json.loads(line[6:]))
        if not keeps:
            self.close()
        if not done or answer.tokens is None or not answer.pieces:
            raise RuntimeError("the stream ended early")
        return answer

    async def begin(self, data):
        """Sends, and reads the response's head. Whether the server keeps the connection."""
        kept = self.writer is not None
        if not kept:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\nContent-Type: application/json\r\n"
        self.writer.write(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status = await self.reader.readline()
        if not status and kept:  # it was closed meanwhile
            self.close()
            return await self.begin(data)
        if b" 200 " not in status:
            raise RuntimeError(f"{status!r} {(await self.reader.read(2000))!r}")
        keeps = True
        while line := (await self.reader.readline()).strip().lower():
            keeps = keeps and line != b"connection: close"
        return keeps

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader, self.writer = None, None


def take(answer, chunk):
    if answer.policy not in (None, chunk.get("system_fingerprint")):
        raise RuntimeError(f"an answer of {answer.policy} and {chunk['system_fingerprint']}")
    answer.policy = chunk.get("system_fingerprint")
    text = "".join(c["delta"].get("content") or "" for c in chunk.get("choices", []))
    if text:
        answer.text += text
        answer.pieces.append(time.perf_counter())
    if chunk.get("usage"):
        answer.tokens = chunk["usage"]["completion_tokens"]


async def clients(host, port, key, bodies, count):
    """`count` clients that each ask one thing after the other until all `bodies` are answered. The answers, and the seconds."""
    left, answers = list(reversed(bodies)), []

    async def client():
        connection = Connection(host, port, key)
        while left:
            answers.append(await connection.stream(left.pop()))
        connection.close()

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
