//! Taking turns with the other side of a comparison: a line in, one measurement, a line out. Uses the standard library and serde.

use crate::Result;
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Instant;

/// The conversation with the runner.
pub(crate) struct Turns {
    /// Without waiting: one measurement after the other.
    free: bool,
    started: Instant,
}

impl Turns {
    /// Says that everything is loaded, and waits for the first turn.
    pub(crate) fn begin(free: bool) -> Result<(Self, bool)> {
        println!("{}", json!({"ready": true, "threads": rayon::current_num_threads()}));
        let mut turns = Self { free, started: Instant::now() };
        let goes_on = turns.wait()?;
        Ok((turns, goes_on))
    }

    /// Answers this turn with its time and `figures`, and waits for the next one: `false` when there is none.
    pub(crate) fn next(&mut self, mut figures: Value) -> Result<bool> {
        figures["seconds"] = json!(self.started.elapsed().as_secs_f64());
        figures["peak_rss_mb"] = json!(peak_rss_mb()?);
        println!("{figures}");
        self.wait()
    }

    fn wait(&mut self) -> Result<bool> {
        let goes_on = self.free || std::io::stdin().lock().read_line(&mut String::new())? > 0;
        self.started = Instant::now();
        Ok(goes_on)
    }
}

/// The most memory that this process has held so far, mapped weights included.
pub(crate) fn peak_rss_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}
