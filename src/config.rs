//! The configuration: defaults, overridden by `hone.toml`, overridden by `HONE_*`, overridden by flags; each value knows where it came from.
//! A new setting is a field below and nothing else: its key in the file, its `HONE_*` name and its line in `hone config` follow from it.

use crate::jobs::canary::CanaryConfig;
use crate::jobs::evaluate_suites::SuiteSettings;
use crate::jobs::gate::GateConfig;
use crate::jobs::triggers::Retrain;
use crate::labeling::LabelingConfig;
use crate::serving::ServingConfig;
use crate::serving::remote::RemoteConfig;
use crate::telemetry::TelemetryConfig;
use hone_learn::model::Format;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the server. Loopback unless told otherwise: hone speaks plain HTTP, so put a TLS proxy before it.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The base model: its name in the data folder, a name `hone model pull` knows, or a path to import.
    pub base: Option<String>,
    /// What computes answers.
    pub engine: EngineName,
    /// How the native engine keeps the base's matrices: f32, bf16 or q8_0; none: as they were published, in bf16 or f32.
    pub base_format: Option<Format>,
    /// Bounds of what the server takes.
    pub limits: Limits,
    /// When the model is retrained by itself.
    pub retrain: Retrain,
    /// What a new policy must show before it is promoted.
    pub gate: GateConfig,
    /// What else the evaluation before the gate asks.
    pub evaluate: SuiteSettings,
    /// Whether people's comparisons decide about what has passed the gate.
    pub canary: CanaryConfig,
    /// What labelers are given.
    pub labeling: LabelingConfig,
    /// How many answers are computed at once, and how many may wait.
    pub serving: ServingConfig,
    /// Where `engine = "remote"` finds its servers.
    pub remote: RemoteConfig,
    /// What it tells about itself.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            base: None,
            engine: EngineName::Auto,
            base_format: None,
            limits: Limits::default(),
            retrain: Retrain::default(),
            gate: GateConfig::default(),
            evaluate: SuiteSettings::default(),
            canary: CanaryConfig::default(),
            labeling: LabelingConfig::default(),
            serving: ServingConfig::default(),
            remote: RemoteConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// The engines a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// native for a family it knows, mistral, where this binary has it, for every other.
    Auto,
    /// hone's own forward pass: the Llama family on CPUs.
    Native,
    /// mistralrs: GPUs and other architectures.
    Mistral,
    /// OpenAI-compatible servers elsewhere; see `[remote]`.
    Remote,
    /// Answers with the prompt's last message: for load tests of hone itself.
    Echo,
}

/// Bounds of what the server takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Largest import over HTTP.
    pub import_bytes_max: usize,
    /// Requests that one person may make per minute; one more is told 429.
    pub requests_per_minute_max: u32,
    /// How long open answers may go on after the server was told to stop.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 2 << 20, import_bytes_max: 64 << 20, requests_per_minute_max: 600, drain_seconds: 60 }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{path}: there is no setting `{key}`; `hone config` lists all of them")]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The dotted key.
        key: String,
    },
    /// A value of the wrong type or outside its range.
    #[error("setting `{key}` ({source_name}): {reason}")]
    Value {
        /// The dotted key.
        key: String,
        /// Where the value came from.
        source_name: String,
        /// What is wrong.
        reason: String,
    },
}

/// The address that a text names: a name like "localhost" is looked up, and its first IPv4 address taken if it has one.
///
/// # Errors
/// When it isn't HOST:PORT, or the name is unknown.
pub fn resolve(text: &str) -> Result<SocketAddr, String> {
    let wrong = |e: std::io::Error| format!("\"{text}\" is no HOST:PORT like 127.0.0.1:8080 ({e})");
    let all: Vec<SocketAddr> = text.to_socket_addrs().map_err(wrong)?.collect();
    let found = all.iter().find(|address| address.is_ipv4()).or(all.first());
    found.copied().ok_or_else(|| format!("the name in \"{text}\" has no address"))
}

fn address<'de, D: Deserializer<'de>>(text: D) -> Result<SocketAddr, D::Error> {
    resolve(&String::deserialize(text)?).map_err(serde::de::Error::custom)
}

/// The configuration and where each of its values came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// Dotted key -> "default", "hone.toml", "HONE_LISTEN", "--listen".
    pub sources: BTreeMap<String, String>,
}

/// Settings that have a name in the environment which other programs use too; `HONE_*` wins.
const STANDARD_NAMES: [(&str, &str); 1] = [("telemetry.otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT")];

/// Values given on the command line: dotted key and text.
pub type Flags = Vec<(&'static str, String)>;

/// Puts the layers together.
///
/// `file`: a file that must exist. Without it `hone.toml` of the working folder is read if it is there.
///
/// # Errors
/// What is wrong, and in which layer.
pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>, flags: &Flags) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::start();
    let default_file = Path::new("hone.toml");
    if let Some(path) = file.or_else(|| default_file.exists().then_some(default_file)) {
        layers.file(path)?;
    }
    for (key, name) in STANDARD_NAMES {
        if let Some(text) = env.get(name).filter(|t| !t.is_empty()) {
            layers.text(key, text, name.to_owned())?;
        }
    }
    for key in layers.keys() {
        let name = format!("HONE_{}", key.replace('.', "_").to_uppercase());
        if let Some(text) = env.get(&name).filter(|t| !t.is_empty()) {
            layers.text(&key, text, name)?;
        }
    }
    for (key, text) in flags {
        layers.text(key, text, format!("--{}", key.replace(['.', '_'], "-")))?;
    }
    Ok(Loaded { config: layers.config, sources: layers.sources })
}

/// The settings as a tree, and where each leaf came from. `None` is kept as null, so that every key is known.
struct Layers {
    config: Config,
    tree: Value,
    sources: BTreeMap<String, String>,
}

impl Layers {
    fn start() -> Self {
        let config = Config::default();
        let tree = serde_json::to_value(&config).unwrap_or_default();
        let sources = leaves(&tree).into_keys().map(|key| (key, "default".to_owned())).collect();
        Self { config, tree, sources }
    }

    fn keys(&self) -> Vec<String> {
        self.sources.keys().cloned().collect()
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let table: Value = toml::from_str(&text).map_err(|e| failed(e.to_string()))?;
        for (key, value) in leaves(&table) {
            if !self.sources.contains_key(&key) {
                return Err(ConfigError::UnknownKey { path: path.to_owned(), key });
            }
            self.set(&key, value, path.display().to_string())?;
        }
        Ok(())
    }

    /// A value given as text: taken as text where that fits, else as a number or a truth value.
    fn text(&mut self, key: &str, text: &str, source: String) -> Result<(), ConfigError> {
        let as_text = self.set(key, Value::String(text.to_owned()), source.clone());
        match (as_text, serde_json::from_str::<Value>(text)) {
            (Err(_), Ok(parsed)) => self.set(key, parsed, source),
            (result, _) => result,
        }
    }

    fn set(&mut self, key: &str, value: Value, source: String) -> Result<(), ConfigError> {
        let mut tree = self.tree.clone();
        let leaf = key.split('.').try_fold(&mut tree, |node, part| node.get_mut(part));
        let Some(leaf) = leaf else {
            return Err(ConfigError::Value {
                key: key.to_owned(),
                source_name: source,
                reason: "no such setting".into(),
            });
        };
        *leaf = value;
        let wrong = |e: serde_json::Error| ConfigError::Value {
            key: key.to_owned(),
            source_name: source.clone(),
            reason: e.to_string(),
        };
        self.config = serde_json::from_value(tree.clone()).map_err(wrong)?;
        self.tree = tree;
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }
}

/// Every value that isn't a table, by dotted key.
#[must_use]
pub fn leaves(tree: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, node: &Map<String, Value>, out: &mut BTreeMap<String, Value>) {
        for (name, value) in node {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Object(inner) => walk(&key, inner, out),
                leaf => drop(out.insert(key, leaf.clone())),
            }
        }
    }
    let mut out = BTreeMap::new();
    if let Value::Object(root) = tree {
        walk("", root, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), text).expect("writes");
        file
    }

    #[test]
    fn an_address_may_be_a_name() {
        assert_eq!(resolve("127.0.0.1:80"), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert!(resolve("localhost:80").is_ok_and(|address| address.ip().is_loopback()));
        assert!(resolve("80").is_err_and(|why| why.contains("HOST:PORT")));
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_default() {
        let file =
            file("listen = '127.0.0.1:1'\nbase = 'a'\n[retrain]\nmin_new_rankings = 5\n[limits]\ndrain_seconds = 7\n");
        let env = env(&[("HONE_LISTEN", "127.0.0.1:2"), ("HONE_BASE", "123"), ("HONE_RETRAIN_MIN_NEW_RANKINGS", "9")]);
        let flags = vec![("listen", "127.0.0.1:3".to_owned())];
        let loaded = load(Some(file.path()), &env, &flags).expect("loads");
        assert_eq!(loaded.config.listen.port(), 3);
        assert_eq!(loaded.config.base.as_deref(), Some("123"), "text that looks like a number stays text");
        assert_eq!(loaded.config.retrain.min_new_rankings, Some(9));
        assert_eq!(loaded.config.limits.drain_seconds, 7);
        assert_eq!(loaded.sources["listen"], "--listen");
        assert_eq!(loaded.sources["base"], "HONE_BASE");
        assert_eq!(loaded.sources["limits.drain_seconds"], file.path().display().to_string());
        assert_eq!(loaded.sources["engine"], "default");
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        let unknown = file("[retrain]\nscheduel = '0 3 * * *'\n");
        let message = load(Some(unknown.path()), &env(&[]), &vec![]).expect_err("refused").to_string();
        assert!(message.contains("retrain.scheduel"), "{message}");
        let message = load(None, &env(&[("HONE_ENGINE", "gpt")]), &vec![]).expect_err("refused").to_string();
        assert!(message.contains("engine") && message.contains("HONE_ENGINE"), "{message}");
    }
}
