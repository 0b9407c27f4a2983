#!/usr/bin/env python3
"""Checks of what the benchmarks conclude from their figures, on figures made up for it (`make bench-check`). Standard library only."""
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from claims.curves import compare, reached
from lib.curve_task import ranked, warmth
from lib.data import Texts, data_set
from lib.worker import ratio, summary


def curve(seed, seconds, scores, kls):
    rows = [{"wall_seconds": seconds * (i + 1), "score": s, "kl": k} for i, (s, k) in enumerate(zip(scores, kls))]
    return {"seed": seed, "rows": rows}


class Conclusions(unittest.TestCase):
    def test_ratio_is_how_much_faster_hone_is(self):
        answers = lambda seconds, memory: [{"seconds": s, "peak_rss_mb": memory} for s in seconds]
        peer, hone = summary(answers([4, 6, 5], 800), 10, "tokens_per_s"), summary(answers([2, 3, 2], 200), 10, "tokens_per_s")
        self.assertEqual(hone["tokens_per_s"], 5.0)
        self.assertEqual((ratio(peer, hone)["ratio"], ratio(peer, hone)["memory"]), (2.5, 0.25))

    def test_a_reward_bought_with_more_kl_does_not_count(self):
        run = curve(1, 10, [0.0, 3.0, 3.0, 3.0], [0.0, 9.0, 9.0, 9.0])
        self.assertEqual(reached(run["rows"], 1.4)[0], 20)
        self.assertIsNone(reached(run["rows"], 1.4, kl_most=3.0))

    def test_the_same_curve_four_times_sooner(self):
        scores, kls = [0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0], [0, 0, 1, 2, 3, 3, 3]
        found = compare({"trl": [curve(1, 40, scores, kls)], "hone": [curve(1, 10, scores, kls)]})
        self.assertEqual((found["ratio"], found["met"], found["note"]), (4.0, True, None))
        worse = compare({"trl": [curve(1, 40, scores, kls)], "hone": [curve(1, 10, [0.0] * 7, kls)]})
        self.assertEqual((worse["ratio"], worse["met"]), (None, False))


class Data(unittest.TestCase):
    def test_lengths_are_spread_and_sum_the_same_for_every_seed(self):
        texts = [Texts.__new__(Texts) for _ in range(2)]
        for seed, t in enumerate(texts):
            t.rng = random.Random(seed)
        first, second = (t.lengths(8, 16, 96) for t in texts)
        self.assertNotEqual(first, second)
        self.assertEqual((sorted(first), sum(first)), (sorted(second), 8 * 56))

    def test_rankings_put_warm_before_cold_and_tie_the_equal(self):
        answers = ["a bad grey day", "a lovely warm day", "a day", "a week"]
        self.assertGreater(warmth(answers[1]), warmth(answers[2]))
        found = ranked([{"messages": [], "answers": answers}] * 9)
        self.assertEqual([r["ranking"] for r in found["rankings"]], [[2, 0, 1, 1]])
        self.assertEqual((len(found["held_out_rankings"]), sorted(found)), (8, sorted(data_set())))


if __name__ == "__main__":
    unittest.main()
