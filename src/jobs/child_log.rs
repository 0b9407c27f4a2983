//! What the training processes of a run wrote: `log.txt` in the run's folder, for people who look at a job. The process writes into the
//! file itself, so that its last words are there even when the server was gone by then. May use: files, the runs' rows.

use super::{JobError, execute_run};
use crate::store::runs::{Run, RunKind};
use hone_domain::ids::RunId;
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const NAME: &str = "log.txt";
/// A run that is resumed goes on in the file, unless it has become this long.
const BYTES_MAX: u64 = 1 << 20;
/// How far back the end of a file is read.
const TAIL_BYTES: u64 = 256 << 10;
/// More of a line than this is of no use to anybody.
const LINE_CHARS_MAX: usize = 2_000;

/// A line that a training process wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Of which phase.
    pub phase: RunKind,
    /// The line, without control characters.
    pub text: String,
}

/// The file that a run's next process writes to.
///
/// # Errors
/// When it can't be made.
pub fn open(data_dir: &Path, run: &RunId) -> Result<File, JobError> {
    let folder = execute_run::folder(data_dir, run);
    std::fs::create_dir_all(&folder).map_err(JobError::file(&folder))?;
    let path = folder.join(NAME);
    if std::fs::metadata(&path).is_ok_and(|file| file.len() > BYTES_MAX) {
        let old = folder.join("log.old.txt");
        std::fs::rename(&path, &old).map_err(JobError::file(&old))?;
    }
    File::options().create(true).append(true).open(&path).map_err(JobError::file(&path))
}

/// The last lines of these runs, which are in the order of their work.
///
/// # Errors
/// When a file can't be read. One that isn't there holds nothing.
pub fn tail(data_dir: &Path, runs: &[Run], most: usize) -> Result<Vec<LogLine>, JobError> {
    let mut lines = Vec::new();
    for run in runs.iter().rev() {
        let path = execute_run::folder(data_dir, &run.id).join(NAME);
        let text = match end_of(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.map_err(JobError::file(&path))?,
        };
        let line = |text| LogLine { phase: run.kind, text: printable(text) };
        lines.extend(text.lines().rev().take(most - lines.len()).map(line));
    }
    lines.reverse();
    Ok(lines)
}

/// The file, or its end from the first whole line on.
fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if skipped > 0 { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    Ok(whole.to_owned())
}

fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').take(LINE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::Write;

    fn run(id: &str, kind: RunKind) -> Run {
        Run {
            id: RunId::from_raw(id),
            kind,
            job_id: None,
            state: crate::store::runs::RunState::Running,
            base_name: "tiny".into(),
            snapshot_sha256: String::new(),
            inputs: Value::Null,
            config: Value::Null,
            seed: 1,
            artifact_dir: None,
            artifact_sha256: None,
            metrics: None,
            error: None,
            created_at: String::new(),
            finished_at: None,
        }
    }

    #[test]
    fn the_end_is_shown_in_order_and_without_control_characters() {
        let data = tempfile::tempdir().expect("a folder");
        let runs = [run("a", RunKind::Reward), run("none", RunKind::Sft), run("b", RunKind::Ppo)];
        let write = |run: &Run, text: &str| {
            open(data.path(), &run.id).expect("opens").write_all(text.as_bytes()).expect("writes");
        };
        write(&runs[0], "one\ntwo\n");
        // A resumed run goes on in the same file.
        write(&runs[0], "\x1b[31mthree\n");
        write(&runs[2], "four\n");
        let shown = |most| -> Vec<String> {
            tail(data.path(), &runs, most)
                .expect("reads")
                .into_iter()
                .map(|l| format!("{} {}", l.phase, l.text))
                .collect()
        };
        assert_eq!(shown(9), ["reward one", "reward two", "reward [31mthree", "ppo four"]);
        assert_eq!(shown(2), ["reward [31mthree", "ppo four"]);
    }

    #[test]
    fn a_long_file_is_put_aside_and_only_its_end_is_read() {
        let data = tempfile::tempdir().expect("a folder");
        let it = run("a", RunKind::Ppo);
        let mut file = open(data.path(), &it.id).expect("opens");
        let line = format!("{}\n", "x".repeat(99));
        file.write_all(line.repeat(11_000).as_bytes()).expect("writes");
        let lines = tail(data.path(), std::slice::from_ref(&it), usize::MAX).expect("reads");
        assert!(lines.len() < 2_700 && lines.iter().all(|l| l.text.len() == 99), "{} whole lines", lines.len());
        open(data.path(), &it.id).expect("opens").write_all(b"anew\n").expect("writes");
        assert_eq!(tail(data.path(), &[it], 9).expect("reads").len(), 1);
    }
}
