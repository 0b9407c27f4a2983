"""The official OpenAI clients, unmodified, against a real hone: `python tests/openai_client.py BINARY [hone serve's flags]`.

Starts `BINARY serve` on a free port with a fresh data folder (engine echo unless flags say otherwise; a first flag `--data DIR`
takes an existing folder), makes a key, and uses the API as an application would. Needs the PyPI package `openai`; with OPENAI_JS set to a
folder that has the npm package, the JavaScript client takes its turn too (openai_client.mjs).
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import openai


def check(client, echo):
    ask = {"model": "champion", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 16}

    models = [model.id for model in client.models.list()]
    assert models[0] == "champion" and len(models) == 2, models
    assert client.models.retrieve("champion").id == "champion"

    whole = client.chat.completions.create(**ask, n=2, seed=1, stop=["zzz"], temperature=0.5, user="someone", metadata={"a": "b"})
    assert [c.index for c in whole.choices] == [0, 1]
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.system_fingerprint == models[1], "the policy is named"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    if echo:
        assert whole.choices[1].message.content == "one two three"

    raw = client.chat.completions.with_raw_response.create(**ask, store=False)
    assert raw.headers["x-hone-policy"] == models[1]

    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(c.system_fingerprint == models[1] for c in chunks)
    if echo:
        assert text == "one two three", text

    with client.chat.completions.stream(**ask) as stream:  # the client's own helper puts the chunks together
        try:
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as cut:  # its way of saying that `max_tokens` was reached
            final = cut.completion
    assert final.choices[0].message.role == "assistant"

    likely = client.chat.completions.create(**ask, logprobs=True, top_logprobs=0)
    assert all(token.logprob <= 0 for token in likely.choices[0].logprobs.content)

    parts = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert client.chat.completions.create(model="champion", messages=parts, max_completion_tokens=4).choices[0].message

    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}
    of_schema = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
    if echo:
        expect(openai.BadRequestError, "response_format", lambda: client.chat.completions.create(**ask, response_format=of_schema))
    else:
        verdict = client.chat.completions.create(**ask, response_format=of_schema).choices[0]
        assert verdict.finish_reason == "stop" and isinstance(json.loads(verdict.message.content)["sure"], bool), verdict

    expect(openai.BadRequestError, "temperature", lambda: client.chat.completions.create(**ask, temperature=9))
    expect(openai.BadRequestError, "messages", lambda: client.chat.completions.create(model="champion", messages=[]))
    expect(openai.NotFoundError, "model", lambda: client.chat.completions.create(**{**ask, "model": "gpt-4"}))
    stranger = client.with_options(api_key="hone_wrong")
    expect(openai.AuthenticationError, None, lambda: stranger.models.list())


def expect(kind, param, call):
    try:
        call()
    except kind as error:
        assert error.param == param and error.message and error.code, error
    else:
        raise AssertionError(f"{kind.__name__} was expected")


def main():
    binary, flags = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as fresh:
        data, flags = (flags[1], flags[2:]) if flags[:1] == ["--data"] else (fresh, flags)
        flags = flags or ["--engine", "echo"]
        hone = [binary, "--data", data, "--json"]
        server = subprocess.Popen([*hone, "serve", "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True)
        try:
            line = server.stdout.readline()
            assert line, "hone didn't start; its message is above"
            name = f"openai-client-{server.pid}"
            key = json.loads(subprocess.check_output([*hone, "user", "add", name], text=True))["key"]
            url = f"http://{json.loads(line)['listen']}/v1"
            check(openai.OpenAI(base_url=url, api_key=key, max_retries=0), echo="echo" in flags)
            if folder := os.environ.get("OPENAI_JS"):
                script = pathlib.Path(__file__).with_name("openai_client.mjs")
                subprocess.run(["node", script, pathlib.Path(folder).absolute(), url, key], check=True, timeout=120)
        finally:
            server.terminate()
            assert server.wait(timeout=90) == 0, "SIGTERM ends the server cleanly"
    print(f"the OpenAI client {openai.__version__} is content")


if __name__ == "__main__":
    main()
