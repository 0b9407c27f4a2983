"""What stands beside every figure: the machine, the date, the versions, the commit; and how a benchmark tells what it found. Standard library only."""
import datetime
import json
import os
import pathlib
import platform
import subprocess


def _cpu(key):
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _memory_gb():
    with open("/proc/meminfo") as lines:
        return round(int(next(lines).split()[1]) / 1e6, 1)


def describe(python=None):
    """`python` is the peers' interpreter, whose packages are named."""
    flags = _cpu("flags").split()
    git = lambda *a: subprocess.run(["git", *a], capture_output=True, text=True).stdout.strip()
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else ""),
        "machine": {
            "cpu": _cpu("model name"), "cores": os.cpu_count(), "memory_gb": _memory_gb(), "kernel": platform.release(),
            "flags": [f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if f in flags],
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"rustc": subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]},
    }
    if python:
        ask = "import importlib.metadata as m\nfor n in 'torch transformers peft trl'.split():\n try: print(n, m.version(n))\n except m.PackageNotFoundError: pass"
        found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
        about["versions"].update(line.split() for line in found.splitlines())
    return about


def tell(found, out=None):
    """Prints one line of JSON, and writes it to the file `out` where one is named."""
    text = json.dumps(found)
    print(text)
    if out:
        pathlib.Path(out).write_text(text + "\n")
