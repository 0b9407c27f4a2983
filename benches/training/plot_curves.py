#!/usr/bin/env python3
"""Draws the learning curves as SVG: `run.py curves --report --out curves.json`, then `plot_curves.py curves.json curves.svg`.
Score above, KL below, over wall time; one thin line per seed, the running mean thick. Standard library only."""
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from claims.curves import smooth

WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 230, 64, 40, 56
COLOURS = {"hone": "#0b7a75", "trl": "#b4462f"}
NAMES = {"hone": "hone, its defaults", "trl": "TRL 1.12.0"}


def ticks(low, high, n=5):
    step = (high - low) / n or 1.0
    scale = 10.0 ** math.floor(math.log10(step))
    nice = next(s * scale for s in (1, 2, 5, 10) if s * scale >= step * 0.999)
    return [i * nice for i in range(math.ceil(low / nice), math.floor(high / nice) + 1)]


def panel(curves, key, title, top, seconds_most):
    values = [r[key] for runs in curves.values() for run in runs for r in run["rows"]]
    low, high = min(values), max(values)
    x = lambda s: LEFT + s / seconds_most * (WIDTH - LEFT - 16)
    y = lambda v: top + HEIGHT - (v - low) / ((high - low) or 1.0) * HEIGHT
    out = [f'<text x="{LEFT}" y="{top - 10}" font-weight="600">{title}</text>']
    for v in ticks(low, high):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.3g}</text>')
    for m in ticks(0, seconds_most / 60):
        out.append(f'<text x="{x(m * 60):.1f}" y="{top + HEIGHT + 18}" text-anchor="middle">{m:.3g} min</text>')
    for side, runs in curves.items():
        for run in runs:
            for line, width, opacity in (([r[key] for r in run["rows"]], 1, 0.35), (smooth(run["rows"], key), 2, 1)):
                points = " ".join(f"{x(r['wall_seconds']):.1f},{y(v):.1f}" for r, v in zip(run["rows"], line))
                out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[side]}" stroke-width="{width}" opacity="{opacity}"/>')
    return out


def main():
    with open(sys.argv[1]) as text:
        curves = json.load(text)["curves"]
    most = max(run["rows"][-1]["wall_seconds"] for runs in curves.values() for run in runs)
    height = TOP + 2 * HEIGHT + GAP + 32
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    for i, (side, name) in enumerate(NAMES.items()):
        out.append(f'<text x="{WIDTH - 300 + 150 * i}" y="{TOP - 10}" fill="{COLOURS[side]}" font-weight="600">{name}</text>')
    out += panel(curves, "score", "Reward", TOP, most)
    out += panel(curves, "kl", "KL to the reference, nats per answer", TOP + HEIGHT + GAP, most)
    with open(sys.argv[2], "w") as file:
        file.write("\n".join([*out, "</svg>"]) + "\n")


main()
