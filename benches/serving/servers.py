"""Servers that the benchmarks start. Standard library only."""
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request


class Server:
    """A server in a process of its own, ready to answer."""

    def __init__(self, name, command, port, key):
        self.name, self.port, self.key = name, port, key
        self.log = tempfile.NamedTemporaryFile("w+", prefix=f"bench-{name}-")
        begun = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() - begun > 120:
                self.log.seek(0)
                raise SystemExit(f"{name} doesn't start: {self.log.read()[-2000:]}")
            time.sleep(0.05)
        self.start_seconds = time.perf_counter() - begun

    def answers(self):
        for path in ("/readyz", "/health"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=1) as reply:
                    return reply.status == 200
            except OSError:
                continue
        return False

    def peak_rss_mb(self):
        return self.memory_mb("VmHWM")

    def rss_mb(self):
        return self.memory_mb("VmRSS")

    def memory_mb(self, name):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
