"""Seeded synthetic texts of exact token counts, as hone's data sets. Standard library only.

A text is a row of units that are one token each: characters for the random model, whole words for a real tokenizer."""
import json
import random
import re


def units(model_dir):
    with open(f"{model_dir}/tokenizer.json") as text:
        vocabulary = json.load(text)["model"]["vocab"]
    words = sorted(w for w in vocabulary if re.fullmatch("Ġ[a-z]{3,8}", w))
    return [w.replace("Ġ", " ") for w in words[:4000]] or list("abcdefghijklmnopqrstuvwxyz")


class Texts:
    def __init__(self, model_dir, seed):
        self.units, self.rng = units(model_dir), random.Random(seed)

    def text(self, tokens):
        return "".join(self.rng.choice(self.units) for _ in range(tokens))

    def lengths(self, n, least, most):
        """`n` lengths spread evenly from least to most, in random order: any batch has the same tokens, and real variety."""
        even = [round(least + (most - least) * (i + 0.5) / n) for i in range(n)]
        self.rng.shuffle(even)
        return even

    def messages(self, tokens):
        return [{"role": "user", "content": self.text(tokens)}]

    def demonstrations(self, prompts, answers):
        """An answer's last token is the end token, which hone adds."""
        return data_set(demonstrations=[
            {"messages": self.messages(p), "ideal": self.text(a - 1), "labeler": "bench"} for p, a in zip(prompts, answers)
        ])

    def rankings(self, prompts, answers):
        """`answers` holds the lengths of each prompt's completions; they are ranked in their order, without ties."""
        return data_set(rankings=[
            {"messages": self.messages(p), "candidates": [self.text(n - 1) for n in ns], "ranking": list(range(len(ns))),
             "labeler": "bench"} for p, ns in zip(prompts, answers)
        ])

    def prompts(self, lengths):
        return data_set(prompts=[{"messages": self.messages(n)} for n in lengths])


def data_set(**parts):
    names = "demonstrations held_out_demonstrations rankings held_out_rankings prompts held_out_prompts".split()
    return {name: parts.get(name, []) for name in names}
