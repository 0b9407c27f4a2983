//! The binary: picks the engine and hands over to the command line. The only file that names the mistralrs adapter.

use hone::config::{Config, EngineName};
use hone::serving::auto::AutoEngine;
use hone::serving::echo::EchoEngine;
use hone::serving::remote::RemoteEngine;
use hone_domain::Engine;
use hone_engine_native::NativeEngine;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    hone::cli::main(engine)
}

fn engine(config: &Config, data: &Path) -> Result<Arc<dyn Engine>, String> {
    let running_max = config.serving.running_max;
    let native = || NativeEngine::new(running_max).with_format(config.base_format);
    match config.engine {
        EngineName::Auto => {
            let native: Arc<dyn Engine> = Arc::new(native());
            Ok(Arc::new(AutoEngine::new(std::iter::once(native).chain(mistral(running_max).ok()).collect())))
        }
        EngineName::Native => Ok(Arc::new(native())),
        EngineName::Mistral => mistral(running_max),
        EngineName::Remote => Ok(Arc::new(RemoteEngine::new(config.remote.clone(), data)?)),
        EngineName::Echo => Ok(Arc::new(EchoEngine::default())),
    }
}

#[cfg(feature = "mistral")]
fn mistral(running_max: usize) -> Result<Arc<dyn Engine>, String> {
    Ok(Arc::new(hone_engine_mistral::MistralEngine::new(running_max)))
}

#[cfg(not(feature = "mistral"))]
fn mistral(_: usize) -> Result<Arc<dyn Engine>, String> {
    let build = "cargo build --release --features mistral";
    Err(format!("this hone was built without the mistral engine: build it with `{build}`, or use `--engine native`"))
}
