//! How training tells a person where it stands, on the error output, so that the result stays alone on the output: a bar on a
//! terminal, a plain line now and then elsewhere (a log, a pipe), JSON lines with `--json`.

use hone_learn::train::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Least time between two plain lines: often enough to see that it lives, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Least time between two JSON lines.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Tells one run's progress.
pub(super) struct Teller(Style);

enum Style {
    Bar(ProgressBar),
    Lines(Pace),
    Json(Pace),
}

impl Teller {
    /// For the error output as it is.
    pub(super) fn new(as_json: bool) -> Self {
        Self(match (as_json, stderr().is_terminal()) {
            (true, _) => Style::Json(Pace::new(JSON_EVERY)),
            (false, true) => Style::Bar(ProgressBar::new(0).with_style(bar_style())),
            (false, false) => Style::Lines(Pace::new(LINE_EVERY)),
        })
    }

    /// For a log, whatever the error output is.
    pub(super) fn for_log() -> Self {
        Self(Style::Lines(Pace::new(LINE_EVERY)))
    }

    /// Tells where the run stands, if it is time to.
    pub(super) fn tell(&mut self, progress: &Progress) {
        let (pace, line): (_, fn(&Progress) -> String) = match &mut self.0 {
            Style::Bar(bar) => return show(bar, progress),
            Style::Lines(pace) => (pace, plain),
            Style::Json(pace) => (pace, |progress| json!({"progress": progress}).to_string()),
        };
        if pace.is_due(progress, Instant::now()) {
            // An output that nobody reads is no reason to stop training.
            let _nobody_reads = writeln!(stderr(), "{}", line(progress));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        if let Style::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

/// When the next line is due: the first report, the last step, and every so often in between.
struct Pace {
    every: Duration,
    told: Option<Instant>,
    told_end: bool,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, told: None, told_end: false }
    }

    fn is_due(&mut self, progress: &Progress, now: Instant) -> bool {
        let at_end = progress.step >= progress.steps_total;
        let long_ago = self.told.is_none_or(|at| now.duration_since(at) >= self.every);
        let due = long_ago || (at_end && !self.told_end);
        if due {
            self.told = Some(now);
            self.told_end = at_end;
        }
        due
    }
}

fn bar_style() -> ProgressStyle {
    let template = "{prefix:>9} {wide_bar} {pos}/{len} {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The figures that tell most about each kind of training; a line has no room for more.
const SHOWN: [&str; 6] =
    ["loss", "evaluate/accuracy", "evaluate/reward", "objective/scores", "objective/kl", "objective/entropy"];

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.steps_total as u64);
    bar.set_position(progress.step as u64);
    bar.set_prefix(progress.phase.clone());
    bar.set_message(speed_and_figures(progress));
}

fn plain(progress: &Progress) -> String {
    let Progress { phase, step, steps_total, .. } = progress;
    format!("{phase} {step}/{steps_total}  {}", speed_and_figures(progress))
}

fn speed_and_figures(progress: &Progress) -> String {
    let Progress { step, rate, rate_unit, seconds_left, metrics, .. } = progress;
    let left = Duration::from_secs_f64(seconds_left.clamp(0.0, 1e9).round());
    // Before the first step there is no speed to speak of.
    let speed = (*step > 0).then(|| format!("{rate:.1} {rate_unit}, {} left", HumanDuration(left)));
    let figures = SHOWN.iter().filter_map(|name| Some(format!("{name} {:.4}", metrics.get(*name)?)));
    speed.into_iter().chain(figures).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: usize) -> Progress {
        Progress {
            phase: "train".into(),
            step,
            steps_total: 9,
            rate: 183.25,
            rate_unit: "tokens/s",
            seconds_left: 125.0,
            metrics: [("loss".to_owned(), 2.5), ("lr".to_owned(), 1e-4)].into(),
        }
    }

    #[test]
    fn a_line_has_rate_time_left_and_the_figures_that_matter() {
        assert_eq!(plain(&at(3)), "train 3/9  183.2 tokens/s, 2 minutes left  loss 2.5000");
        assert_eq!(plain(&at(0)), "train 0/9  loss 2.5000");
    }

    #[test]
    fn lines_come_first_last_and_at_their_pace() {
        let begin = Instant::now();
        let mut pace = Pace::new(LINE_EVERY);
        let mut due = |step, seconds| pace.is_due(&at(step), begin + Duration::from_secs(seconds));
        assert!(due(1, 0), "the first");
        assert!(!due(2, 9) && due(3, 10) && !due(4, 11));
        assert!(due(9, 12) && !due(9, 13), "the last step once");
    }
}
