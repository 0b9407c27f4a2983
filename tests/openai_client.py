"""The official OpenAI clients, unmodified, against a real hone: `python tests/openai_client.py BINARY [hone serve's flags]`.

Starts `BINARY serve` on a free port with a fresh data folder (engine echo unless flags say otherwise; a first flag `--data DIR`
takes an existing folder), makes a key, and uses the API as an application would. With a `--base` it does so once more through a second
hone, to which the first is the remote server. Needs the PyPI package `openai`; with OPENAI_JS set to a
folder that has the npm package, the JavaScript client takes its turn too (openai_client.mjs).
"""

import contextlib
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


WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather of today.", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}}}


def check_tools(client, echo):
    ask = {"model": "champion", "messages": [{"role": "user", "content": "Rain?"}], "max_tokens": 200}
    must = {**ask, "tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    if echo:
        expect(openai.BadRequestError, "tools", lambda: client.chat.completions.create(**must))
        return
    chosen = client.chat.completions.create(**must).choices[0]
    assert chosen.finish_reason == "tool_calls" and chosen.message.content is None, chosen
    [call] = chosen.message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Oslo", "Rome"), call

    result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
    told = {**ask, "max_tokens": 8, "messages": [*ask["messages"], chosen.message, result]}  # the client's own object goes back as it came
    assert client.chat.completions.create(**told).choices[0].message.content

    with client.chat.completions.stream(**must, n=2) as stream:
        final = stream.get_final_completion()
    for choice in final.choices:
        assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls) == 1, choice
        assert json.loads(choice.message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Rome")

    wrong = {**must, "tool_choice": {"type": "function", "function": {"name": "time"}}}
    expect(openai.BadRequestError, "tool_choice", lambda: client.chat.completions.create(**wrong))


def expect(kind, param, call):
    try:
        call()
    except kind as error:
        assert error.param == param and error.message and error.code, error
    else:
        raise AssertionError(f"{kind.__name__} was expected")


@contextlib.contextmanager
def serving(hone, flags):
    """A running hone: its address and a key."""
    server = subprocess.Popen([*hone, "serve", "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert line, "hone didn't start; its message is above"
        name = f"openai-client-{server.pid}"
        key = json.loads(subprocess.check_output([*hone, "user", "add", name], text=True))["key"]
        yield f"http://{json.loads(line)['listen']}", key
    finally:
        server.terminate()
        assert server.wait(timeout=90) == 0, "SIGTERM ends the server cleanly"


def clients(url, key, echo):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    check(client, echo)
    check_tools(client, echo)
    if folder := os.environ.get("OPENAI_JS"):
        script = pathlib.Path(__file__).with_name("openai_client.mjs")
        subprocess.run(["node", script, pathlib.Path(folder).absolute(), f"{url}/v1", key], check=True, timeout=120)


def main():
    binary, flags = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as fresh:
        data, flags = (flags[1], flags[2:]) if flags[:1] == ["--data"] else (f"{fresh}/data", flags)
        flags = flags or ["--engine", "echo"]
        echo = "echo" in flags
        with serving([binary, "--data", data, "--json"], flags) as (url, key):
            clients(url, key, echo)
            if "--base" in flags:  # what an OpenAI-compatible server elsewhere is to hone, the first hone is to a second one
                settings = pathlib.Path(fresh, "hone.toml")
                settings.write_text(f'[remote]\nurls = ["{url}"]\nmodel = "champion"\napi_key = "{key}"\n')
                second = [binary, "--data", f"{fresh}/second", "--config", settings, "--json"]
                with serving(second, ["--engine", "remote", "--base", flags[flags.index("--base") + 1]]) as (url, key):
                    clients(url, key, echo)
    print(f"the OpenAI client {openai.__version__} is content")


if __name__ == "__main__":
    main()
