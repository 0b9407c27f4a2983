//! `--engine auto`: of several engines the first that can serve a base serves it.

use async_trait::async_trait;
use hone_domain::{Engine, EngineError, LoadedPolicy, PolicyFiles};
use std::path::Path;
use std::sync::Arc;

/// Engines in the order in which they are asked.
pub struct AutoEngine {
    engines: Vec<Arc<dyn Engine>>,
}

impl AutoEngine {
    /// The preferred one first.
    #[must_use]
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines }
    }

    fn of(&self, base_dir: &Path) -> Option<&Arc<dyn Engine>> {
        self.engines.iter().find(|engine| engine.serves(base_dir))
    }
}

#[async_trait]
impl Engine for AutoEngine {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn serves(&self, base_dir: &Path) -> bool {
        self.of(base_dir).is_some()
    }

    fn needs_merged(&self, base_dir: &Path) -> bool {
        self.of(base_dir).is_some_and(|engine| engine.needs_merged(base_dir))
    }

    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
        let Some(engine) = self.of(&files.base_dir) else {
            let names: Vec<&str> = self.engines.iter().map(|engine| engine.name()).collect();
            let base = files.base_dir.display();
            return Err(EngineError::Load(format!("no engine of this hone ({}) can serve {base}", names.join(", "))));
        };
        tracing::info!(engine = engine.name(), policy = %files.id, "loading");
        engine.load(files).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::echo::EchoEngine;
    use hone_domain::ids::PolicyId;

    /// Serves bases whose folder has a word in its name, and wants them merged.
    struct Picky(&'static str);

    #[async_trait]
    impl Engine for Picky {
        fn name(&self) -> &'static str {
            self.0
        }
        fn serves(&self, base_dir: &Path) -> bool {
            base_dir.to_string_lossy().contains(self.0)
        }
        fn needs_merged(&self, _: &Path) -> bool {
            true
        }
        async fn load(&self, _: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
            Err(EngineError::Load(format!("{} was asked", self.0)))
        }
    }

    #[tokio::test]
    async fn the_first_engine_that_can_serve_a_base_does() {
        let of = |base: &str| PolicyFiles {
            id: PolicyId::from_raw("p"),
            base_dir: base.into(),
            adapter_dir: None,
            merged_dir: None,
        };
        let auto = AutoEngine::new(vec![Arc::new(Picky("llama")), Arc::new(EchoEngine::default())]);
        let asked = auto.load(&of("a llama")).await.err();
        assert_eq!(asked, Some(EngineError::Load("llama was asked".into())));
        assert!(auto.load(&of("something else")).await.is_ok());
        assert!(auto.needs_merged(Path::new("a llama")) && !auto.needs_merged(Path::new("something else")));
        let none = AutoEngine::new(vec![Arc::new(Picky("llama"))]);
        let refused = none.load(&of("something else")).await.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("(llama) can serve something else"), "{refused}");
    }
}
