//! Reads what a model folder says about its special tokens and chat template.

use crate::TextError;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The small files of a model folder, as far as the tokenizer is concerned.
pub(crate) struct Folder {
    dir: PathBuf,
    tokenizer_config: Value,
    generation_config: Value,
    config: Value,
    jinja_file: Option<String>,
}

impl Folder {
    /// Reads the files that are there; none of them is needed.
    pub(crate) fn read(dir: &Path) -> Result<Self, TextError> {
        Ok(Self {
            tokenizer_config: read_json(&dir.join("tokenizer_config.json"))?,
            generation_config: read_json(&dir.join("generation_config.json"))?,
            config: read_json(&dir.join("config.json"))?,
            jinja_file: read_optional(&dir.join("chat_template.jinja"))?,
            dir: dir.to_owned(),
        })
    }

    /// The text of a special token such as `bos_token`: a string, or an object with `content`.
    pub(crate) fn token(&self, name: &str) -> Option<&str> {
        let value = self.tokenizer_config.get(name)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// Whether tokenizer_config.json says anything of this key, be it `null`: then other files aren't asked.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.tokenizer_config.get(key).is_some()
    }

    /// Ids under a key such as `eos_token_id` (a number or a list): generation_config.json's, then config.json's.
    pub(crate) fn ids(&self, key: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for value in [&self.generation_config, &self.config].into_iter().filter_map(|file| file.get(key)) {
            let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            ids.extend(list.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()));
        }
        ids
    }

    /// The chat template: `chat_template.jinja`, else tokenizer_config.json's `chat_template`, which is a text or a
    /// list of `{name, template}` whose "default" is meant.
    pub(crate) fn chat_template(&self) -> Option<&str> {
        if let Some(text) = &self.jinja_file {
            return Some(text);
        }
        let value = self.tokenizer_config.get("chat_template")?;
        let default = |list: &'_ Vec<Value>| list.iter().position(|t| t["name"] == "default");
        match value.as_array() {
            Some(list) => list.get(default(list)?)?.get("template")?.as_str(),
            None => value.as_str(),
        }
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn read_json(path: &Path) -> Result<Value, TextError> {
    match read_optional(path)? {
        Some(text) => {
            serde_json::from_str(&text).map_err(|e| TextError::Parse { path: path.to_owned(), reason: e.to_string() })
        }
        None => Ok(Value::Null),
    }
}

fn read_optional(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_come_in_every_usual_spelling() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write(
            "tokenizer_config.json",
            r#"{"bos_token": null, "eos_token": {"content": "</s>"}, "pad_token": "<pad>",
            "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
        );
        write("generation_config.json", r#"{"eos_token_id": [7, 9]}"#);
        write("config.json", r#"{"eos_token_id": 2}"#);
        let folder = Folder::read(dir.path()).expect("read");
        assert_eq!((folder.token("bos_token"), folder.names("bos_token")), (None, true));
        assert_eq!((folder.token("eos_token"), folder.token("pad_token")), (Some("</s>"), Some("<pad>")));
        assert_eq!(folder.ids("eos_token_id"), [7, 9, 2]);
        assert_eq!(folder.chat_template(), Some("d"));
        write("chat_template.jinja", "j");
        assert_eq!(Folder::read(dir.path()).expect("read").chat_template(), Some("j"));
        write("config.json", "{");
        assert!(matches!(Folder::read(dir.path()), Err(TextError::Parse { .. })));
    }
}
