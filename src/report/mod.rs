//! One-page reports, of a run (what it was, how it went, what it changed) and of the decision about a policy, as HTML that needs nothing
//! beside itself (no script, no other file). What a model or a person wrote is hostile text here: everything is escaped. Pure text, no IO; may use store's types.

mod curves;
pub mod decision;
pub mod preferences;
pub mod svg;

use crate::store::runs::{Run, RunKind, RunState};
use hone_learn::samples::Sample;
use preferences::Preferences;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use svg::{Points, number};

/// What a report is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The run, as far as it is.
    pub run: Run,
    /// The defaults of its settings, so that what was chosen stands out.
    pub defaults: Value,
    /// What it took, as (name, figure with its unit).
    pub figures: Vec<(&'static str, String)>,
    /// Metric -> points of (step, value).
    pub curves: BTreeMap<String, Points>,
    /// The newest value of every metric.
    pub last: BTreeMap<String, f64>,
    /// Prompts with answers before and after.
    pub samples: Vec<Sample>,
    /// Of a reward model: whose preferences it holds, and what it rewards.
    pub preferences: Option<Preferences>,
}

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let run = &report.run;
    let mut out = begin(&format!("{}: {}", kind_name(run.kind), run.id));
    header(&mut out, run);
    figures(&mut out, &report.figures);
    charts(&mut out, report);
    samples(
        &mut out,
        &report.samples,
        "The same prompts, the same random numbers: the policy that the run started from, and the one that it made. Drawn by the seed, \
         not chosen.",
    );
    if let Some(preferences) = &report.preferences {
        preferences::section(&mut out, preferences);
    }
    tables(&mut out, report);
    end(out, "The same run again: the settings, seed and snapshot above.")
}

/// A page up to its first element.
fn begin(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>",
        escape(title)
    )
}

/// A page from its last element on.
fn end(page: String, last_words: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    page + &format!("<footer>Written by hone {version}. {last_words}</footer></body></html>\n")
}

fn kind_name(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Sft => "Supervised fine-tuning",
        RunKind::Reward => "Reward model",
        RunKind::Judge => "Judge",
        RunKind::Ppo => "PPO",
        RunKind::Evaluate => "Evaluation",
    }
}

fn header(out: &mut String, run: &Run) {
    let state = match run.state {
        RunState::Running => "still running when this was written",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "stopped; it can be resumed",
    };
    let (kind, id, base) = (kind_name(run.kind), escape(run.id.as_str()), escape(&run.base_name));
    let when = escape(run.finished_at.as_deref().unwrap_or(&run.created_at));
    let _ = write!(
        out,
        "<header><p class=\"kind\">Run report</p><h1>{kind} on {base}</h1>\
         <p class=\"soft\"><code>{id}</code> · {state} · <time>{when}</time></p></header>"
    );
    if let Some(error) = &run.error {
        let _ = write!(out, "<p class=\"error\">{}</p>", escape(error));
    }
}

fn figures(out: &mut String, figures: &[(&str, String)]) {
    if figures.is_empty() {
        return;
    }
    out.push_str("<dl class=\"figures\">");
    for (name, figure) in figures {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(figure));
    }
    out.push_str("</dl>");
}

fn charts(out: &mut String, report: &Report) {
    let charts = curves::of(report.run.kind, &report.curves);
    if charts.is_empty() {
        return;
    }
    out.push_str("<h2>Curves</h2><div class=\"charts\">");
    for (plan, lines) in charts {
        let _ =
            write!(out, "<section class=\"card\"><h3>{}</h3><p class=\"small soft\">{}</p>", plan.title, plan.about);
        out.push_str("<p class=\"legend\">");
        for (i, line) in lines.iter().enumerate() {
            let last = line.points.last().map(|p| number(p.1)).unwrap_or_default();
            let _ = write!(out, "<span><i class=\"l{}\"></i>{} <b>{last}</b></span>", i + 1, line.name);
        }
        let _ = write!(out, "</p>{}</section>", svg::chart(plan.title, &lines));
    }
    out.push_str("</div>");
}

fn samples(out: &mut String, samples: &[Sample], about: &str) {
    if samples.is_empty() {
        return;
    }
    let _ = write!(out, "<h2>Before and after</h2><p class=\"small soft\">{about}</p><br>");
    for sample in samples {
        out.push_str("<section class=\"card sample\"><div class=\"prompt\">");
        for message in &sample.messages {
            let _ = write!(out, "<p class=\"who\">{}</p>", message.role.as_str());
            let _ = write!(out, "<p class=\"said\" dir=\"auto\">{}</p>", escape(&message.content));
        }
        out.push_str("</div>");
        for (who, text, reward) in
            [("before", &sample.before, sample.reward_before), ("after", &sample.after, sample.reward_after)]
        {
            let reward = reward.map(|r| format!(" · reward {}", number(r))).unwrap_or_default();
            let text = if text.trim().is_empty() { "(an empty answer)".to_owned() } else { escape(text) };
            let _ =
                write!(out, "<div><p class=\"who\">{who}{reward}</p><p class=\"said\" dir=\"auto\">{text}</p></div>");
        }
        out.push_str("</section>");
    }
}

fn tables(out: &mut String, report: &Report) {
    let Run { base_name, seed, snapshot_sha256, inputs, config, artifact_sha256, .. } = &report.run;
    out.push_str("<div class=\"tables\"><div><h2>What it was made of</h2><table>");
    let mut row = |class: &str, name: &str, value: &str| {
        let (name, value) = (escape(name), escape(value));
        let _ = write!(out, "<tr{class}><td>{name}</td><td class=\"mono\">{value}</td></tr>");
    };
    row("", "base", base_name);
    row("", "seed", &seed.to_string());
    row("", "snapshot", snapshot_sha256);
    for (role, path) in inputs.as_object().into_iter().flatten() {
        row("", role, &said(path));
    }
    row("", "deterministic", &said(&config["deterministic"]));
    row("", "artifact SHA-256", artifact_sha256.as_deref().unwrap_or("none yet"));
    for (name, value) in config["settings"].as_object().into_iter().flatten() {
        let chosen = report.defaults.get(name).is_some_and(|default| default != value);
        row(if chosen { " class=\"set\"" } else { "" }, name, &said(value));
    }
    out.push_str("</table><p class=\"small soft\">In bold: settings that differ from their defaults.</p></div>");
    if !report.last.is_empty() {
        out.push_str("<div><h2>Last figures</h2><table>");
        for (name, value) in &report.last {
            let _ = write!(out, "<tr><td>{}</td><td class=\"mono\">{}</td></tr>", escape(name), number(*value));
        }
        out.push_str("</table></div>");
    }
    out.push_str("</div>");
}

/// A JSON value as a person would write it.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        Value::Array(list) => list.iter().map(said).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Text that can't be anything but text, inside of elements and quoted attributes. Control characters, which HTML doesn't allow, are
/// shown as U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
