//! A training run in a process of its own, so that a crash or a lack of memory in training never touches serving.
//!
//! The process is this binary, as `hone train resume RUN --supervised`. It tells its progress as JSON lines on its output, and
//! whatever else it has to say goes to the run's log. Its input is a pipe on which nothing is ever sent: when it closes, by our asking or because the server is gone, the process
//! writes a checkpoint and ends.

use super::{JobError, child_log};
use hone_domain::ids::RunId;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to write its checkpoint before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The exit code of a run that was asked to stop and can be resumed (BSD's `EX_TEMPFAIL`).
pub const EXIT_STOPPED: u8 = 75;

/// The running process of a run.
pub(super) struct Child {
    /// Which run.
    pub(super) run: RunId,
    process: std::process::Child,
    input: Option<ChildStdin>,
    latest: Arc<Mutex<Option<Value>>>,
    asked_to_stop: Option<Instant>,
}

impl Child {
    /// Starts the process.
    pub(super) fn start(program: &PathBuf, data_dir: &Path, run: &RunId) -> Result<Self, JobError> {
        let mut command = Command::new(program);
        command.arg("--data").arg(data_dir).args(["--json", "train", "resume", run.as_str(), "--supervised"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(child_log::open(data_dir, run)?);
        let mut process = command.spawn().map_err(JobError::file(program))?;
        let latest = Arc::default();
        if let Some(output) = process.stdout.take() {
            let latest = Arc::clone(&latest);
            std::thread::spawn(move || keep_latest(output, &latest));
        }
        Ok(Self { run: run.clone(), input: process.stdin.take(), process, latest, asked_to_stop: None })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The newest progress since the last call.
    pub(super) fn progress(&self) -> Option<Value> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How it ended, once it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, JobError> {
        self.process.try_wait().map_err(|e| JobError::Process(format!("can't look after the training process: {e}")))
    }

    /// Asks it to write a checkpoint and end; kills it when it takes too long. To be called until it has ended.
    pub(super) fn stop(&mut self) {
        self.input = None;
        let since = self.asked_to_stop.get_or_insert_with(Instant::now);
        if since.elapsed() > STOP_WITHIN {
            tracing::warn!(run = %self.run, "the training process didn't stop by itself: killing it");
            let _gone_already = self.process.kill();
        }
    }
}

impl Child {
    /// Stops it and waits for its end.
    pub(super) async fn quit(&mut self) {
        while let Ok(None) = self.ended() {
            self.stop();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Reads until the process closes its output. A line that isn't progress is of no interest here: results are in the database.
fn keep_latest(output: ChildStdout, latest: &Mutex<Option<Value>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let parsed = serde_json::from_str::<Value>(&line).ok();
        if let Some(progress) = parsed.as_ref().and_then(|line| line.get("progress")) {
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        }
    }
}

/// Why a process that left no result ended, in words.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(9), _) => "it was killed, probably because the machine ran out of memory: lower micro_batch_tokens, set \
                         recompute, or give it more memory"
            .into(),
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it ended with exit code {code}; the job's log says why"),
        (None, None) => "it ended for an unknown reason".into(),
    }
}
