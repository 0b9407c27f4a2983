// The official OpenAI client for JavaScript, unmodified, against a running hone: `node tests/openai_client.mjs FOLDER URL KEY`,
// where FOLDER has the npm package `openai` in its node_modules. Started by openai_client.py.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [folder, baseURL, apiKey] = process.argv.slice(2);
const OpenAI = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const ask = { model: "champion", messages: [{ role: "user", content: "one two three" }], max_tokens: 16 };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.equal(models[0], "champion");

const whole = await client.chat.completions.create({ ...ask, n: 2, seed: 1, stop: ["zzz"], temperature: 0.5 });
assert.equal(whole.choices.length, 2);
assert.equal(whole.system_fingerprint, models[1]);
assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));

const { response } = await client.chat.completions.create({ ...ask, store: false }).withResponse();
assert.equal(response.headers.get("x-hone-policy"), models[1]);

let text = "";
let usage;
for await (const chunk of await client.chat.completions.create({ ...ask, seed: 1, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
  assert.equal(chunk.system_fingerprint, models[1]);
}
assert.ok(usage.completion_tokens > 0);
const again = await client.chat.completions.create({ ...ask, seed: 1 });
assert.equal(again.choices[0].message.content, text, "streamed or not, the same seed gives the same answer");

// A function: refused by an engine that calls none (echo), else called, whole and streamed.
const parameters = { type: "object", properties: { city: { enum: ["Oslo", "Rome"] } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const must = { ...ask, max_tokens: 200, tools, tool_choice: "required", parallel_tool_calls: false };
if (models[1] === "base_echo") {
  await assert.rejects(client.chat.completions.create(must), (e) => e instanceof OpenAI.BadRequestError && e.param === "tools");
} else {
  const final = await client.chat.completions.stream(must).finalChatCompletion();
  for (const { finish_reason, message } of [final.choices[0], (await client.chat.completions.create(must)).choices[0]]) {
    assert.equal(finish_reason, "tool_calls");
    assert.ok(["Oslo", "Rome"].includes(JSON.parse(message.tool_calls[0].function.arguments).city));
  }
}

// A client that leaves in the middle: the server goes on.
const left = await client.chat.completions.create({ ...ask, stream: true });
left.controller.abort();

await assert.rejects(client.chat.completions.create({ ...ask, temperature: 9 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
await assert.rejects(client.chat.completions.create({ ...ask, model: "gpt-4" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
const stranger = new OpenAI({ baseURL, apiKey: "hone_wrong", maxRetries: 0 });
await assert.rejects(stranger.models.retrieve("champion"), OpenAI.AuthenticationError);
console.log("the OpenAI client for JavaScript is content");
