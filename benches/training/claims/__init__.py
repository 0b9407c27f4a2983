"""One module per claim: `run(bench)` measures it and answers what goes into the JSON."""
