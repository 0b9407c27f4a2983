//! The real binary as a process, with the echo engine.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server. Dropping it kills it.
pub(crate) struct Hone {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
}

/// `hone --data DATA ARGS`.
pub(crate) fn hone(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hone"));
    command.arg("--data").arg(data).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is ready.
pub(crate) fn serve(data: &Path) -> Hone {
    serve_with(data, &[])
}

/// With variables of its environment.
pub(crate) fn serve_with(data: &Path, environment: &[(&str, &str)]) -> Hone {
    let mut command = hone(data, &["--json", "serve", "--engine", "echo", "--listen", "127.0.0.1:0"]);
    command.envs(environment.iter().copied());
    let mut process = command.stderr(Stdio::null()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("one line of JSON");
    Hone { process, url: format!("http://{}", ready["listen"].as_str().expect("an address")) }
}

impl Hone {
    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("kills");
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let told = Command::new("kill").arg(self.process.id().to_string()).status().expect("runs kill");
        assert!(told.success());
        self.process.wait().expect("ends").code()
    }
}

impl Drop for Hone {
    fn drop(&mut self) {
        // Ended already: nothing to do.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// A command to its end: its exit code, its JSON, and what it said on stderr.
pub(crate) fn run(data: &Path, args: &[&str]) -> (Option<i32>, Value, String) {
    let output = hone(data, args).output().expect("runs");
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), json, String::from_utf8_lossy(&output.stderr).into_owned())
}
