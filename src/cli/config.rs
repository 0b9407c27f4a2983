//! `hone config`: every setting, its value, and where the value came from.

use super::{CliError, Context};
use crate::config::leaves;
use serde_json::{Map, Value, json};

/// Settings whose values nobody is shown.
const SECRETS: [&str; 1] = ["remote.api_key"];

/// Prints the settings.
///
/// # Errors
/// When the settings are wrong.
pub fn run(context: &Context) -> Result<(), CliError> {
    let loaded = context.settings(&Vec::new())?;
    let mut values = leaves(&serde_json::to_value(&loaded.config)?);
    for secret in SECRETS {
        values.entry(secret.to_owned()).and_modify(|value| {
            if !value.is_null() {
                *value = json!("***");
            }
        });
    }
    if context.json {
        let entry = |(key, value): (String, Value)| {
            let source = loaded.sources.get(&key).cloned();
            (key, json!({"value": value, "source": source}))
        };
        println!("{}", Value::Object(values.into_iter().map(entry).collect::<Map<_, _>>()));
        return Ok(());
    }
    for (key, value) in values {
        let value = if value.is_null() { "-".to_owned() } else { value.to_string() };
        println!("{key:<34} {value:<24} {}", loaded.sources.get(&key).map_or("", String::as_str));
    }
    Ok(())
}
