//! Progress on stderr: what, how much, how fast, how long.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes. It draws nothing when stderr is no terminal.
pub(super) fn bytes_bar(what: &str, bytes: u64) -> ProgressBar {
    let style = "  {msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style.progress_chars("=> ")).with_message(what.to_owned())
}

/// A line of what is happening, on stderr.
pub(super) fn say(line: &str) {
    eprintln!("  {line}");
}
