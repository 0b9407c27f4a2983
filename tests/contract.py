"""hone against its own OpenAPI document: `python tests/contract.py BINARY` with the PyPI package `schemathesis`, whose command lies beside this python.

Starts `BINARY serve --engine echo` on a free port with a fresh data folder, and lets schemathesis ask everything that the document allows, and much that
it doesn't: no answer may be a 5xx, have a status or a body that the document doesn't name, take what it forbids, or need no key where it says so.
What the document allows and hone refuses is no finding: a schema can't say that the last message is the person's, or that a ranking names
each answer once. The seed is fixed, so that a finding can be had again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    schemathesis = pathlib.Path(sys.executable).parent / "schemathesis"
    with tempfile.TemporaryDirectory() as home:
        settings = pathlib.Path(home) / "hone.toml"
        settings.write_text("[limits]\nrequests_per_minute_max = 1000000\n")
        command = [binary, "--data", f"{home}/data", "--config", settings, "--json"]
        key = json.loads(subprocess.check_output([*command, "user", "add", "tester", "--role", "admin"]))["key"]
        server = subprocess.Popen([*command, "serve", "--engine", "echo", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        try:
            listen = json.loads(server.stdout.readline())["listen"]
            ask = ["run", f"http://{listen}/openapi.json", "-H", f"Authorization: Bearer {key}", "--phases", "coverage,fuzzing", "--seed", "1",
                   "--max-examples", "30", "--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
            sys.exit(subprocess.run([schemathesis, *ask], cwd=home).returncode)
        finally:
            server.terminate()
            server.wait(timeout=90)


if __name__ == "__main__":
    main()
