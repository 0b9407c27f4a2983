//! Hugging Face folders.

use super::*;
use safetensors::SafeTensors;
use serde_json::json;

/// A tiny model's folder, its weights cut into two shards.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a temp folder");
    crate::tiny::write(&dir.path().join("tiny"), &crate::tiny::TinySpec::default()).expect("written");
    let tiny = dir.path().join("tiny");
    let bytes = fs::read(tiny.join("model.safetensors")).expect("weights");
    let whole = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut map = serde_json::Map::new();
    for shard in 0..2 {
        let file = format!("model-0000{}-of-00002.safetensors", shard + 1);
        let part: Vec<_> = whole.iter().enumerate().filter(|(i, _)| i % 2 == shard).map(|(_, tensor)| tensor).collect();
        map.extend(part.iter().map(|(name, _)| ((*name).to_owned(), json!(file))));
        fs::write(tiny.join(file), safetensors::serialize(part, None).expect("serialised")).expect("written");
    }
    fs::write(tiny.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).expect("written");
    fs::rename(tiny.join("model.safetensors"), dir.path().join("whole")).expect("moved");
    dir
}

fn change(dir: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = json_file(dir, name);
    change(&mut value);
    fs::write(dir.join(name), value.to_string()).expect("written");
}

#[test]
fn shards_become_one_file_with_the_same_weights() {
    let dir = folder();
    let target = dir.path().join("imported");
    let imported = import(&dir.path().join("tiny"), &target).expect("imported");
    assert_eq!((imported.model_type.as_str(), imported.plain_template), ("llama", false));
    fs::rename(dir.path().join("whole"), dir.path().join("tiny/model.safetensors")).expect("moved back");
    let (before, after) = (weights(&dir.path().join("tiny")), weights(&target));
    assert_eq!(before, after);
    assert_eq!(imported.parameters, after.values().map(|(_, values)| values.len() as u64).sum::<u64>());
    let again = import(&dir.path().join("tiny"), &target).expect_err("taken").to_string();
    assert!(again.contains("already a model"), "{again}");
}

#[test]
fn a_model_without_template_gets_the_plain_one_written_down() {
    let dir = folder();
    let (tiny, target) = (dir.path().join("tiny"), dir.path().join("imported"));
    change(&tiny, "tokenizer_config.json", |config| config["chat_template"] = Value::Null);
    assert!(import(&tiny, &target).expect("imported").plain_template);
    let config = json_file(&target, "tokenizer_config.json");
    assert!(config["chat_template"].as_str().is_some_and(|t| t.contains("Assistant:")), "{config}");
    assert_eq!(config["eos_token"], json_file(&tiny, "tokenizer_config.json")["eos_token"]);
    let (before, after) = (ChatTokenizer::open(&tiny).expect("opens"), ChatTokenizer::open(&target).expect("opens"));
    let messages = [hone_domain::Message::user("hi")];
    assert_eq!(before.encode_prompt(&messages).expect("encodes"), after.encode_prompt(&messages).expect("encodes"));
}

#[test]
fn each_missing_or_broken_file_is_named() {
    for (file, words) in [
        ("tokenizer.json", "tokenizer.json is missing"),
        ("config.json", "no config.json"),
        ("model.safetensors.index.json", "model.safetensors is missing"),
    ] {
        let dir = folder();
        fs::remove_file(dir.path().join("tiny").join(file)).expect("removed");
        let error = refusal(&dir.path().join("tiny"));
        assert!(error.contains(words), "{error}");
    }
    let dir = folder();
    fs::write(dir.path().join("tiny/model-00002-of-00002.safetensors"), b"half a file").expect("written");
    assert!(refusal(&dir.path().join("tiny")).contains("damaged"));
    assert!(refusal(&dir.path().join("nowhere")).contains("isn't there"));
}

#[test]
fn weights_that_do_not_fit_their_config_are_refused() {
    let dir = folder();
    let tiny = dir.path().join("tiny");
    let layers = json_file(&tiny, "config.json")["num_hidden_layers"].as_u64().expect("a number");
    change(&tiny, "config.json", |config| config["num_hidden_layers"] = json!(layers + 1));
    assert!(refusal(&tiny).contains("is missing; download"));
    change(&tiny, "config.json", |config| config["num_hidden_layers"] = json!(layers - 1));
    assert!(refusal(&tiny).contains("which the Llama block doesn't"));
    change(&tiny, "config.json", |config| config["num_hidden_layers"] = json!(layers));
    change(&tiny, "config.json", |config| config["vocab_size"] = json!(7));
    assert!(refusal(&tiny).contains("has shape"));
}

#[test]
fn what_the_forward_pass_does_not_have_is_refused_with_the_reason() {
    let cases = [
        ("architectures", json!(["GPT2LMHeadModel"]), "GPT2LMHeadModel"),
        ("rope_scaling", json!({"rope_type": "yarn"}), "yarn"),
        ("hidden_act", json!("gelu"), "gelu"),
    ];
    for (key, value, word) in cases {
        let dir = folder();
        change(&dir.path().join("tiny"), "config.json", |config| config[key] = value);
        let error = refusal(&dir.path().join("tiny"));
        assert!(error.contains(word) && error.contains("Qwen2"), "{error}");
    }
}
