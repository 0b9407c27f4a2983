"""What the benchmarks share: workers that take turns, data, set-up, the machine's description."""
