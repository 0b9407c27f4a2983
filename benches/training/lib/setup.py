"""What a benchmark needs before it starts: the release build, a model folder, the data on disk, the peers' Python. Standard library only."""
import hashlib
import json
import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class Bench:
    """One benchmark's surroundings, from the command line's arguments."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.threads = arguments.threads
        self.cache = pathlib.Path(arguments.cache).expanduser()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.python = arguments.python
        target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
        self.worker = str(pathlib.Path(target) / "release/examples/bench_worker")
        if not arguments.no_build:
            build = ["cargo", "build", "--quiet", "--release", "-p", "hone-learn", "--example", "bench_worker"]
            subprocess.run(build, cwd=REPOSITORY, check=True)
        self.model = self.model_dir()

    def peer(self, name):
        """The command of a peer in peers/."""
        return [self.python, str(HERE / "peers" / f"{name}.py")]

    def tool(self, kind, spec):
        """What a kind of bench_worker prints that is no measurement."""
        path = self.cache / f"{kind}-spec.json"
        path.write_text(json.dumps(spec))
        env = {**os.environ, "RAYON_NUM_THREADS": str(self.threads)}
        return subprocess.run([self.worker, kind, path], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout

    def model_dir(self):
        """The folder given by --model seen through a template that adds nothing, or random weights of SmolLM2-135M's shape."""
        if self.arguments.model:
            return self.plain_view(pathlib.Path(self.arguments.model).resolve())
        layers, hidden = (2, 192) if self.arguments.quick else (30, 576)
        folder = self.cache / f"random-{layers}x{hidden}"
        if not (folder / "model.safetensors").exists():
            self.tool("model", {"dir": str(folder), "layers": layers, "hidden": hidden})
        return str(folder)

    def plain_view(self, model):
        folder = self.cache / f"plain-{hashlib.sha256(str(model).encode()).hexdigest()[:8]}"
        folder.mkdir(exist_ok=True)
        for path in model.iterdir():
            link = folder / path.name
            if path.suffix != ".jinja" and path.name != "tokenizer_config.json" and not link.exists():
                link.symlink_to(path)
        config = json.loads((model / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": PLAIN_TEMPLATE}))
        return str(folder)

    def write(self, name, data, model=None):
        """Puts a data set on disk for hone and, as hone's own token ids, for the peers: `(data file, ids file, ids)`."""
        folder = self.cache / "data"
        folder.mkdir(exist_ok=True)
        data_file, ids_file = folder / f"{name}.json", folder / f"{name}-ids.json"
        data_file.write_text(json.dumps(data))
        ids = self.tool("encode", {"model": model or self.model, "data": str(data_file)})
        ids_file.write_text(ids)
        return str(data_file), str(ids_file), json.loads(ids)
