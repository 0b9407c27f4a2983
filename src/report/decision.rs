//! The page about the decision on a policy: what the gate said rule by rule, what people said in its trial, what it was made of, and answers
//! of the old policy and the new one.

use super::preferences::{self, Preferences};
use super::{begin, end, escape, samples, svg::number};
use crate::store::policies::{Policy, PolicyState};
use hone_learn::samples::Sample;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;

/// What the page is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The policy, with the gate's report and its trial.
    pub policy: Policy,
    /// Prompts with the answers of the champion of that time and of the policy.
    pub samples: Vec<Sample>,
    /// Of the reward model that it was optimised against, where there was one.
    pub preferences: Option<Preferences>,
}

/// A rule as it is in the policy's record.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Rule {
    name: String,
    statistic: f64,
    threshold: f64,
    n: u64,
    passed: bool,
    sentence: String,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            statistic: f64::NAN,
            threshold: f64::NAN,
            n: 0,
            passed: false,
            sentence: String::new(),
        }
    }
}

/// The page.
#[must_use]
pub fn page(decision: &Decision) -> String {
    let policy = &decision.policy;
    let mut out = begin(&format!("Decision: {}", policy.id));
    header(&mut out, policy);
    match &policy.gate_report {
        Some(report) => {
            rules(&mut out, report);
            suites(&mut out, report);
        }
        None => out.push_str("<p class=\"soft\">No gate has judged this policy.</p>"),
    }
    if let Some(trial) = &policy.trial {
        people(&mut out, trial);
    }
    samples(
        &mut out,
        &decision.samples,
        "Held-out prompts, the same random numbers: the champion of that time, and this policy, with what the reward model gave them.",
    );
    if let Some(preferences) = &decision.preferences {
        preferences::section(&mut out, preferences);
    }
    made_of(&mut out, policy);
    end(out, "The same figures as JSON: the policy's record.")
}

fn header(out: &mut String, policy: &Policy) {
    let state = match policy.state {
        PolicyState::Candidate => "a candidate: it may be promoted",
        PolicyState::Champion => "the champion",
        PolicyState::Retired => "retired: it was the champion once",
        PolicyState::Rejected => "rejected",
    };
    let (id, base, when) = (escape(policy.id.as_str()), escape(&policy.base_name), escape(&policy.created_at));
    let _ = write!(
        out,
        "<header><p class=\"kind\">Decision</p><h1>{id}</h1>\
         <p class=\"soft\">on {base} · {state} · <time>{when}</time></p></header>"
    );
}

fn rules(out: &mut String, report: &Value) {
    let passed = report["passed"] == true;
    let verdict = if passed { "The gate let it pass" } else { "The gate refused it" };
    let _ = write!(out, "<h2>{verdict}</h2><table class=\"rules\">");
    for rule in report["rules"].as_array().into_iter().flatten() {
        let Rule { name, statistic, threshold, n, passed, sentence } = Rule::deserialize(rule).unwrap_or_default();
        let (mark, class) = if passed { ("✓ kept", "") } else { ("✗ not kept", " class=\"set\"") };
        let (name, sentence) = (escape(&name), escape(&sentence));
        let _ = write!(
            out,
            "<tr{class}><td>{mark}</td><td><p>{sentence}</p><p class=\"mono soft\">{name}: {} of {}, n = {n}</p></td></tr>",
            number(statistic),
            number(threshold)
        );
    }
    out.push_str("</table><p class=\"small soft\">Each rule with its figure, its bound, and how many observations it is made of.</p>");
}

/// What the suites found of both policies; nothing where none was asked.
fn suites(out: &mut String, report: &Value) {
    let changes = report["inputs"]["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return;
    }
    out.push_str("<h2>Suites</h2><table><tr><th>figure</th><th>before</th><th>now</th><th>change</th><th>n</th></tr>");
    for change in changes {
        let figure = |value: &Value| number(value.as_f64().unwrap_or(f64::NAN));
        let (name, difference) = (escape(change["name"].as_str().unwrap_or_default()), &change["difference"]);
        let _ = write!(
            out,
            "<tr><td>{name}</td><td class=\"mono\">{}</td><td class=\"mono\">{}</td><td class=\"mono\">{} ({} to {})</td>\
             <td class=\"mono\">{}</td></tr>",
            figure(&change["old"]),
            figure(&change["new"]),
            figure(&difference["mean"]),
            figure(&difference["low"]),
            figure(&difference["high"]),
            figure(&change["n"])
        );
    }
    out.push_str(
        "</table><p class=\"small soft\">The champion of that time and this policy on the same items, with the 95 % interval of the difference. \
         docs/EVALUATION.md says what each figure is.</p>",
    );
}

fn people(out: &mut String, trial: &Value) {
    let sentence = escape(trial["sentence"].as_str().unwrap_or_default());
    let _ = write!(
        out,
        "<h2>What people said</h2><p>{sentence}.</p><p class=\"small soft\">Evidence that it is better {}, that it is worse {}; 1 is none. The \
         test stays valid however often it is looked at.</p>",
        number(trial["evidence_better"].as_f64().unwrap_or(f64::NAN)),
        number(trial["evidence_worse"].as_f64().unwrap_or(f64::NAN))
    );
}

fn made_of(out: &mut String, policy: &Policy) {
    out.push_str("<h2>What it was made of</h2><table>");
    let mut row = |name: &str, value: Option<&str>| {
        let _ = write!(out, "<tr><td>{name}</td><td class=\"mono\">{}</td></tr>", escape(value.unwrap_or("none")));
    };
    row("parent", policy.parent_id.as_ref().map(|id| id.as_str()));
    row("run", policy.run_id.as_ref().map(|id| id.as_str()));
    row("snapshot", policy.snapshot_sha256.as_deref());
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::Message;
    use hone_domain::ids::PolicyId;
    use serde_json::json;

    const HOSTILE: &str = "<script>alert(1)</script>";

    fn decided() -> Decision {
        let rule = |name: &str, passed: bool| json!({"name": name, "statistic": 0.41, "threshold": 0.5, "n": 128, "passed": passed, "sentence": format!("about {name}")});
        let suite = json!({"name": "truthfulqa_mc1", "old": 0.31, "new": 0.29, "n": 200, "difference": {"mean": -0.02, "low": -0.05, "high": 0.01}});
        let policy = Policy {
            id: PolicyId::from_raw("pol_7"),
            base_name: HOSTILE.into(),
            adapter_dir: None,
            parent_id: Some(PolicyId::from_raw("pol_6")),
            run_id: None,
            snapshot_sha256: Some("abcdef".into()),
            config: json!({}),
            metrics: json!({}),
            gate_report: Some(
                json!({"passed": false, "inputs": {"changes": [suite]}, "rules": [rule("judge_win_rate", false), rule(HOSTILE, true), "damaged"]}),
            ),
            trial: Some(
                json!({"sentence": "people prefer the champion", "evidence_better": 0.2, "evidence_worse": 31.0}),
            ),
            state: PolicyState::Rejected,
            created_at: "2026-01-02T03:04:05Z".into(),
            promoted_at: None,
        };
        let (before, after) = ("old".to_owned(), HOSTILE.to_owned());
        let sample =
            Sample { messages: vec![Message::user("q")], before, after, reward_before: Some(0.5), reward_after: None };
        Decision { policy, samples: vec![sample], preferences: None }
    }

    #[test]
    fn a_person_can_read_why() {
        let page = page(&decided());
        for wanted in [
            "The gate refused it",
            "about judge_win_rate",
            "0.41 of 0.5, n = 128",
            "people prefer the champion",
            "abcdef",
            "pol_6",
            "<td>truthfulqa_mc1</td>",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert!(
            page.contains("<tr class=\"set\"><td>✗ not kept</td><td><p>about judge_win_rate</p>"),
            "what failed stands out"
        );
        assert!(!page.contains("<script"), "what was written stays text");
        let unjudged = Decision { policy: Policy { gate_report: None, trial: None, ..decided().policy }, ..decided() };
        assert!(super::page(&unjudged).contains("No gate has judged"));
    }
}
