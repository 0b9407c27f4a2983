//! GGUF files, written by candle's writer.

use super::*;
use candle_core::quantized::gguf_file::{Value as Field, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use hone_domain::Message;

const HIDDEN: usize = 8;
const HEADS: usize = 2;
const HEAD_DIM: usize = 4;
const VOCAB: usize = 259 + 3;

type Metadata = Vec<(String, Field)>;

fn strings<S: AsRef<str>>(list: &[S]) -> Field {
    Field::Array(list.iter().map(|s| Field::String(s.as_ref().to_owned())).collect())
}

/// A Llama of one block, with SmolLM's kind of tokenizer.
fn metadata(arch: &str) -> Metadata {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    tokens.extend(byte_letters());
    tokens.extend(["he", "ll", "Ġa"].map(str::to_owned));
    let kinds = (0..tokens.len()).map(|i| Field::I32(if i < 3 { 3 } else { 1 })).collect();
    let template = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let number = |key: &str, n: usize| (format!("{arch}.{key}"), Field::U32(u32::try_from(n).expect("small")));
    let text = |key: &str, text: &str| (key.to_owned(), Field::String(text.to_owned()));
    vec![
        text("general.architecture", arch),
        number("block_count", 1),
        number("context_length", 64),
        number("embedding_length", HIDDEN),
        number("feed_forward_length", 6),
        number("attention.head_count", HEADS),
        number("attention.head_count_kv", 1),
        (format!("{arch}.rope.freq_base"), Field::F32(100_000.0)),
        (format!("{arch}.attention.layer_norm_rms_epsilon"), Field::F32(1e-5)),
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "smollm"),
        ("tokenizer.ggml.tokens".to_owned(), strings(&tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Field::Array(kinds)),
        ("tokenizer.ggml.merges".to_owned(), strings(&["h e", "l l", "Ġ a"])),
        ("tokenizer.ggml.bos_token_id".to_owned(), Field::U32(1)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Field::U32(2)),
        ("tokenizer.ggml.padding_token_id".to_owned(), Field::U32(2)),
        ("tokenizer.ggml.add_bos_token".to_owned(), Field::Bool(false)),
        text("tokenizer.chat_template", template),
    ]
}

/// GPT-2's printable stand-ins for the 256 bytes, in order of their code points (and no more is needed of them here).
fn byte_letters() -> Vec<String> {
    let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256_u32).filter(|b| !printable(b)).count();
    let codes = (0..256_u32).filter(printable).chain(256..256 + u32::try_from(others).expect("small"));
    codes.filter_map(char::from_u32).map(String::from).collect()
}

/// Values that tell where each came from: row and column.
fn counted(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| (i / columns * 100 + i % columns) as f32).collect()
}

/// llama.cpp's own order of q and k: `w.reshape(heads, 2, d/2, in).swapaxes(1, 2)`.
fn interleave(values: &[f32], heads: usize) -> Vec<f32> {
    let tensor = Tensor::from_slice(values, (heads, 2, HEAD_DIM / 2, HIDDEN), &Device::Cpu).expect("a tensor");
    let swapped = tensor.transpose(1, 2).and_then(|t| t.contiguous()).and_then(|t| t.flatten_all());
    swapped.and_then(|t| t.to_vec1()).expect("values")
}

/// GGUF name, Hugging Face name, values, shape.
type Named = (String, String, Vec<f32>, Vec<usize>);

/// The tensors as Hugging Face orders them.
fn tensors(qwen: bool) -> Vec<Named> {
    let rows = [
        ("attn_q", "self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN),
        ("attn_k", "self_attn.k_proj", HEAD_DIM, HIDDEN),
        ("attn_v", "self_attn.v_proj", HEAD_DIM, HIDDEN),
        ("attn_output", "self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
        ("ffn_gate", "mlp.gate_proj", 6, HIDDEN),
        ("ffn_up", "mlp.up_proj", 6, HIDDEN),
        ("ffn_down", "mlp.down_proj", HIDDEN, 6),
    ];
    let block =
        |gguf: &str, hf: &str, kind: &str| (format!("blk.0.{gguf}.{kind}"), format!("model.layers.0.{hf}.{kind}"));
    let mut all = Vec::new();
    for (gguf, hf, rows, columns) in rows {
        let (name, target) = block(gguf, hf, "weight");
        all.push((name, target, counted(rows, columns), vec![rows, columns]));
        if qwen && rows != 6 && columns == HIDDEN && gguf != "attn_output" {
            let (name, target) = block(gguf, hf, "bias");
            all.push((name, target, counted(rows, 1), vec![rows]));
        }
    }
    for (gguf, hf) in [("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")] {
        let (name, target) = block(gguf, hf, "weight");
        all.push((name, target, vec![1.0; HIDDEN], vec![HIDDEN]));
    }
    let name = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let (embedding, target) = name("token_embd.weight", "model.embed_tokens.weight");
    all.push((embedding, target, counted(VOCAB, HIDDEN), vec![VOCAB, HIDDEN]));
    let (norm, target) = name("output_norm.weight", "model.norm.weight");
    all.push((norm, target, vec![0.5; HIDDEN], vec![HIDDEN]));
    all
}

fn write_gguf(path: &Path, metadata: &Metadata, permuted: bool, qwen: bool) {
    write_tensors(path, metadata, tensors(qwen).into_iter(), permuted);
}

fn write_tensors(path: &Path, metadata: &Metadata, tensors: impl Iterator<Item = Named>, permuted: bool) {
    let quantise = |(name, _, values, shape): Named| {
        let values = match name.rsplit('.').nth(1) {
            Some("attn_q") if permuted => interleave(&values, HEADS),
            Some("attn_k") if permuted => interleave(&values, 1),
            _ => values,
        };
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
        (name, QTensor::quantize(&tensor, GgmlDType::F32).expect("written as f32"))
    };
    let tensors: Vec<(String, QTensor)> = tensors.map(quantise).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<(&str, &Field)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut file = fs::File::create(path).expect("a file");
    write(&mut file, &metadata, &tensors).expect("written");
}

fn imported(metadata: &Metadata, permuted: bool, qwen: bool) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a temp folder");
    let (file, target) = (dir.path().join("m.gguf"), dir.path().join("model"));
    write_gguf(&file, metadata, permuted, qwen);
    import(&file, &target).expect("imported");
    (dir, target)
}

fn set(metadata: &mut Metadata, key: &str, value: Field) {
    metadata.retain(|(k, _)| k != key);
    metadata.push((key.to_owned(), value));
}

fn assert_same_weights(target: &Path, qwen: bool) {
    let found = weights(target);
    let expected = tensors(qwen);
    assert_eq!(found.len(), expected.len());
    for (_, name, values, shape) in expected {
        assert_eq!(found[&name], (shape, values), "{name}");
    }
}

#[test]
fn a_llama_comes_back_in_its_own_order() {
    let (_dir, target) = imported(&metadata("llama"), true, false);
    assert_same_weights(&target, false);
    let config = json_file(&target, "config.json");
    assert_eq!(config["architectures"][0], "LlamaForCausalLM");
    assert_eq!((&config["rms_norm_eps"], &config["rope_theta"]), (&Value::from(1e-5), &Value::from(1e5)));
    assert_eq!((&config["tie_word_embeddings"], &config["vocab_size"]), (&Value::Bool(true), &Value::from(VOCAB)));
    assert_eq!((&config["head_dim"], &config["num_key_value_heads"]), (&Value::from(4), &Value::from(1)));
}

#[test]
fn qwen2_was_never_permuted() {
    let (_dir, target) = imported(&metadata("qwen2"), false, true);
    assert_same_weights(&target, true);
    assert_eq!(json_file(&target, "config.json")["architectures"][0], "Qwen2ForCausalLM");
}

#[test]
fn the_byte_level_tokenizer_works() {
    let (_dir, target) = imported(&metadata("llama"), true, false);
    let text = ChatTokenizer::open(&target).expect("opens");
    let encode = |t: &str| text.encode_text(t, false).expect("encodes");
    assert_eq!(encode("he"), [259]);
    assert_eq!(encode("he a"), [259, 261]);
    assert_eq!(encode("11").len(), 2);
    assert_eq!(text.decode(&encode("héllo 🦀 a")), "héllo 🦀 a");
    assert_eq!((text.eos_id(), text.bos_id(), text.pad_id()), (2, Some(1), Some(2)));
    let prompt = text.encode_prompt(&[Message::user("he")]).expect("encodes");
    assert_eq!(prompt.first(), Some(&1), "<|im_start|>");
    assert!(text.plain_template().is_none());
}

#[test]
fn the_sentence_piece_tokenizer_merges_by_score() {
    let mut meta = metadata("llama");
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    tokens.extend(["▁", "a", "b", "c", "ab", "bc", "▁ab"].map(str::to_owned));
    let kinds = (0..tokens.len()).map(|i| Field::I32([2, 3, 3].get(i).copied().unwrap_or(if i < 259 { 6 } else { 1 })));
    // "bc" has a higher score than "ab": in "abc" it is merged first.
    let scores = (0..tokens.len()).map(|i| {
        Field::F32(match i {
            263 => -3.0,
            264 => -1.0,
            265 => -4.0,
            _ => -10.0,
        })
    });
    set(&mut meta, "tokenizer.ggml.model", Field::String("llama".to_owned()));
    set(&mut meta, "tokenizer.ggml.scores", Field::Array(scores.collect()));
    set(&mut meta, "tokenizer.ggml.token_type", Field::Array(kinds.collect()));
    set(&mut meta, "tokenizer.ggml.tokens", strings(&tokens));
    set(&mut meta, "tokenizer.ggml.add_bos_token", Field::Bool(true));
    meta.retain(|(key, _)| !matches!(key.as_str(), "tokenizer.chat_template" | "tokenizer.ggml.merges"));
    let (_dir, target) = imported(&meta, true, false);
    let text = ChatTokenizer::open(&target).expect("opens");
    assert_eq!(text.encode_text("ab", true).expect("encodes"), [1, 265]);
    assert_eq!(text.encode_text("abc", false).expect("encodes"), [259, 260, 264]);
    let crab = text.encode_text("é", false).expect("encodes");
    assert_eq!(crab, [259, 3 + 0xC3, 3 + 0xA9], "unknown characters fall back to bytes");
    assert_eq!(text.decode(&crab), "é");
    let config = json_file(&target, "tokenizer_config.json");
    assert!(config["chat_template"].as_str().is_some_and(|t| t.contains("bos_token")), "the plain one is written down");
}

#[test]
fn stretched_rotary_frequencies_are_recognised() {
    // Llama 3.2's, with heads of 4: the first pair turns fast and is kept, the second turns less than once.
    let mut meta = metadata("llama");
    set(&mut meta, "llama.rope.freq_base", Field::F32(500_000.0 * 500_000.0));
    let write = |factors: [f32; 2]| {
        let dir = tempfile::tempdir().expect("a temp folder");
        let extra = ("rope_freqs.weight".to_owned(), String::new(), factors.to_vec(), vec![2]);
        write_tensors(&dir.path().join("m.gguf"), &meta, tensors(false).into_iter().chain([extra]), true);
        dir
    };
    let dir = write([1.0, 32.0]);
    import(&dir.path().join("m.gguf"), &dir.path().join("model")).expect("imported");
    let config = json_file(&dir.path().join("model"), "config.json");
    assert_eq!(
        (&config["rope_scaling"]["rope_type"], &config["rope_scaling"]["factor"]),
        (&"llama3".into(), &32.0.into())
    );
    let dir = write([3.0, 32.0]);
    assert!(refusal(&dir.path().join("m.gguf")).contains("isn't Llama 3's"));
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let file = dir.path().join("m.gguf");
    let with = |key: &str, value: Field| {
        let mut meta = metadata("llama");
        set(&mut meta, key, value);
        write_gguf(&file, &meta, true, false);
        refusal(&file)
    };
    let text = |t: &str| Field::String(t.to_owned());
    assert!(with("general.architecture", text("gemma")).contains("\"gemma\" is not supported"));
    assert!(with("tokenizer.ggml.pre", text("tekken")).contains("(tekken)"));
    assert!(with("tokenizer.ggml.model", text("rwkv")).contains("kind rwkv"));
    assert!(with("llama.expert_count", Field::U32(8)).contains("mixture"));
    assert!(with("llama.rope.scaling.type", text("yarn")).contains("(yarn)"));
    assert!(with("llama.attention.head_count", Field::U32(4)).contains("has shape"));
    assert!(with("llama.block_count", Field::U32(2)).contains("is missing"));

    write_gguf(&file, &metadata("llama"), true, false);
    let whole = fs::read(&file).expect("read");
    fs::write(&file, &whole[..whole.len() - 64]).expect("cut");
    assert!(refusal(&file).contains("download it again"));
    fs::write(&file, &whole[..200]).expect("cut");
    assert!(refusal(&file).contains("download it again"));
    fs::write(&file, b"PK\x03\x04 something else").expect("written");
    assert!(refusal(&file).contains("neither"));
}
