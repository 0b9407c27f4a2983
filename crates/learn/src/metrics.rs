//! `metrics.jsonl`: one JSON object a line with step, phase, seconds since the start, and the metrics; the same goes into TensorBoard's
//! event file beside it. Uses std, serde and `tensorboard`.

use crate::LearnError;
use crate::files::write_atomic;
use crate::tensorboard::EventLog;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// Steps (PPO: iterations) done.
    pub step: usize,
    /// train or evaluate.
    pub phase: String,
    /// Seconds of training so far, those before an interruption included.
    pub wall_seconds: f64,
    /// The figures by name.
    pub metrics: BTreeMap<String, f64>,
}

/// The open log of one run.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: EventLog,
}

impl MetricsLog {
    /// Opens `run_dir/metrics.jsonl` and the event file. A fresh run (`after` 0) starts an empty one; a resumed run keeps the lines up to step `after`,
    /// since the steps behind it are done again.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn open(run_dir: &Path, after: usize) -> Result<Self, LearnError> {
        fs::create_dir_all(run_dir).map_err(LearnError::io(run_dir))?;
        let path = run_dir.join("metrics.jsonl");
        let mut kept = if after == 0 { Vec::new() } else { read(&path)? };
        kept.retain(|line| line.step <= after);
        let mut text = Vec::new();
        for line in &kept {
            write_line(&mut text, line).map_err(LearnError::io(&path))?;
        }
        write_atomic(&path, &text)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(LearnError::io(&path))?;
        Ok(Self { path, file, events: EventLog::open(run_dir, &kept)? })
    }

    /// Appends a line. JSON has no NaN: a figure that isn't finite is left out.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, line: &MetricsLine) -> Result<(), LearnError> {
        let mut line = line.clone();
        line.metrics.retain(|_, v| v.is_finite());
        let mut text = Vec::new();
        write_line(&mut text, &line).and_then(|()| self.file.write_all(&text)).map_err(LearnError::io(&self.path))?;
        self.events.append(&line)
    }
}

fn write_line(out: &mut Vec<u8>, line: &MetricsLine) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

/// All whole lines of a log; a last line that was cut by a crash is left out. No file, no lines.
///
/// # Errors
/// When the file can't be read.
pub fn read(path: &Path) -> Result<Vec<MetricsLine>, LearnError> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(LearnError::io(path)(e)),
        Ok(text) => Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: usize, x: f64) -> MetricsLine {
        MetricsLine { step, phase: "train".into(), wall_seconds: 0.5, metrics: [("loss/sft".to_owned(), x)].into() }
    }

    #[test]
    fn a_resumed_run_repeats_no_step() {
        let home = tempfile::tempdir().expect("temp dir");
        let path = home.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(home.path(), 0).expect("opens");
        (1..=3).for_each(|s| log.append(&line(s, s as f64)).expect("appends"));
        log.file.write_all(b"{\"step\": 4, \"pha").expect("a crash cuts a line");
        drop(log);
        let mut log = MetricsLog::open(home.path(), 2).expect("opens");
        log.append(&line(3, 9.0)).expect("appends");
        assert_eq!(read(&path).expect("reads"), [line(1, 1.0), line(2, 2.0), line(3, 9.0)]);
        MetricsLog::open(home.path(), 0).expect("opens");
        assert!(read(&path).expect("reads").is_empty(), "a fresh run starts empty");
    }

    #[test]
    fn a_figure_that_is_not_finite_is_left_out() {
        let home = tempfile::tempdir().expect("temp dir");
        let mut log = MetricsLog::open(home.path(), 0).expect("opens");
        log.append(&line(1, f64::NAN)).expect("appends");
        assert!(read(&home.path().join("metrics.jsonl")).expect("reads")[0].metrics.is_empty());
    }
}
