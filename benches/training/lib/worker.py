"""Both sides of a comparison as processes that take turns: a line in, one measurement, a line of JSON out. Standard library only."""
import json
import os
import statistics
import subprocess
import tempfile


class Worker:
    """A process that has loaded its model and waits. `command` gets a file with `spec` as JSON at its end."""

    def __init__(self, name, command, spec, threads):
        self.name = name
        self.dir = tempfile.TemporaryDirectory(prefix=f"bench-{name}-")
        path = os.path.join(self.dir.name, "spec.json")
        with open(path, "w") as out:
            json.dump({"run_dir": os.path.join(self.dir.name, "run"), **spec}, out)
        counts = dict.fromkeys(["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"], str(threads))
        env = {**os.environ, **counts, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*command, path], stdin=pipe, stdout=pipe, text=True, env=env)
        self.about = self.read()

    def read(self):
        """The next line of JSON; whatever else a library prints is passed over."""
        for line in self.process.stdout:
            if line.startswith('{"'):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended with status {self.process.wait()}: see what it wrote above")

    def turn(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.read()

    def lines(self):
        """All that a worker prints which doesn't wait for turns."""
        for line in self.process.stdout:
            if line.startswith('{"'):
                yield json.loads(line)
        if self.process.wait():
            raise SystemExit(f"{self.name} ended with status {self.process.returncode}: see what it wrote above")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()  # what it says at its end
        self.process.wait()
        self.dir.cleanup()


def alternate(workers, repeats, warmups=1):
    """A B A B ...: `{name: [answers]}` without the warm-up turns, whose answers are in `warm`."""
    answers, warm = {w.name: [] for w in workers}, {w.name: [] for w in workers}
    for turn in range(warmups + repeats):
        for worker in workers:
            (warm if turn < warmups else answers)[worker.name].append(worker.turn())
    for worker in workers:
        worker.close()
    return answers, warm


def summary(answers, units, unit):
    """One side's medians. `units` is how many tokens (samples, ...) a turn works off."""
    seconds = [a["seconds"] for a in answers]
    median = statistics.median(seconds)
    return {
        "median_seconds": round(median, 4), "seconds": [round(s, 4) for s in seconds], unit: round(units / median, 3),
        "peak_rss_mb": round(max(a["peak_rss_mb"] for a in answers)),
    }


def ratio(peer, hone):
    """How many times faster `hone` is, by medians and by the median of the ratios of neighbouring turns."""
    each = sorted(p / h for p, h in zip(peer["seconds"], hone["seconds"]))
    by_medians = round(peer["median_seconds"] / hone["median_seconds"], 3)
    return {"ratio": by_medians, "ratio_of_neighbours": round(statistics.median(each), 3), "lowest": round(each[0], 3),
            "highest": round(each[-1], 3), "memory": round(hone["peak_rss_mb"] / peer["peak_rss_mb"], 3)}
