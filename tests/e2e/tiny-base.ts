// A complete random base model, small enough to be trained in seconds: what a browser test of the whole loop runs on.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const [hidden, layers, heads, kvHeads, ffn] = [32, 2, 4, 2, 64];
const specials = ['<unk>', '<s>', '</s>', '<pad>', '<|im_start|>', '<|im_end|>'];
const endOfTurn = 5;

/** One token per character: newline and printable ASCII, written as byte-level BPE writes them. */
const characters = ['Ċ', 'Ġ', ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
const vocabulary = [...specials, ...characters];

const config = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_act: 'silu',
  torch_dtype: 'float32',
  hidden_size: hidden,
  intermediate_size: ffn,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  head_dim: hidden / heads,
  vocab_size: vocabulary.length,
  max_position_embeddings: 1024,
  rope_theta: 10_000,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  attention_bias: false,
  mlp_bias: false,
  bos_token_id: 1,
  eos_token_id: endOfTurn,
  pad_token_id: 3,
};

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
const tokenizer = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: specials.map((content, id) => ({ id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false })),
  normalizer: null,
  pre_tokenizer: byteLevel,
  post_processor: null,
  decoder: byteLevel,
  model: {
    type: 'BPE',
    dropout: null,
    unk_token: '<unk>',
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
    merges: [],
  },
};

const tokenizerConfig = {
  tokenizer_class: 'PreTrainedTokenizerFast',
  bos_token: '<s>',
  eos_token: '<|im_end|>',
  pad_token: '<pad>',
  unk_token: '<unk>',
  clean_up_tokenization_spaces: false,
  add_bos_token: false,
  chat_template:
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
};

/** Every weight with its shape. */
function shapes(): [string, number[]][] {
  const kv = (hidden / heads) * kvHeads;
  const layer = (i: number): [string, number[]][] =>
    (
      [
        ['input_layernorm', [hidden]],
        ['post_attention_layernorm', [hidden]],
        ['self_attn.q_proj', [hidden, hidden]],
        ['self_attn.k_proj', [kv, hidden]],
        ['self_attn.v_proj', [kv, hidden]],
        ['self_attn.o_proj', [hidden, hidden]],
        ['mlp.gate_proj', [ffn, hidden]],
        ['mlp.up_proj', [ffn, hidden]],
        ['mlp.down_proj', [hidden, ffn]],
      ] as [string, number[]][]
    ).map(([name, shape]) => [`model.layers.${i}.${name}.weight`, shape]);
  const ends: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocabulary.length, hidden]],
    ['lm_head.weight', [vocabulary.length, hidden]],
    ['model.norm.weight', [hidden]],
  ];
  return [...ends, ...Array.from({ length: layers }, (_, i) => layer(i)).flat()];
}

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** All weights as a safetensors file: the length of the header, the header, the numbers. Variance 1 / fan-in; norms are 1. */
function weights(): Buffer {
  const next = random(1);
  const normal = (std: number) => std * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, shape] of shapes()) {
    const fanIn = shape[1];
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (fanIn ? normal(1 / Math.sqrt(fanIn)) : 1));
    parts.push(Buffer.from(values.buffer));
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + values.byteLength] };
    at += values.byteLength;
  }
  const text = JSON.stringify(header);
  const head = Buffer.from(text + ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  return Buffer.concat([length, head, ...parts]);
}

/** Writes the base model as a Hugging Face folder. */
export async function writeTinyBase(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  const json = (name: string, value: unknown) => writeFile(join(dir, name), JSON.stringify(value));
  await json('config.json', config);
  await json('tokenizer.json', tokenizer);
  await json('tokenizer_config.json', tokenizerConfig);
  await writeFile(join(dir, 'model.safetensors'), weights());
}
