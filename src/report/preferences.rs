//! Whose preferences a reward model holds, and what it rewards, as a part of a page: who ranked and how much, by a name that isn't theirs; the
//! answers that it likes most and least; what goes with its reward. Pure text, no IO.

use super::{escape, svg::number};
use hone_learn::train::pseudonym;
use hone_learn::train::rewarded::{Effect, Rewarded, Shown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use utoipa::ToSchema;

/// People in the table, those with the most rankings.
const PEOPLE_MAX: usize = 30;

/// A share of pairs of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PairShare)]
struct Share {
    /// Pairs that were ordered alike; half of one counts where an order is a tie.
    of: f64,
    /// All pairs.
    pairs: f64,
}

impl Share {
    /// "72 % of 340 pairs".
    fn in_words(self) -> String {
        if self.pairs > 0.0 {
            format!("{:.0} % of {:.0} pairs", 100.0 * self.of / self.pairs, self.pairs)
        } else {
            "no pairs".to_owned()
        }
    }
}

/// One labeler in a reward run's report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = PreferringLabeler)]
struct Labeler {
    /// What they are here now: a role, `imports`, or nothing where the account is gone.
    role: Option<String>,
    /// Rankings of theirs that it learned from.
    rankings: usize,
    /// Rankings of theirs that it never saw.
    held_out_rankings: usize,
    /// How it orders these.
    held_out: Share,
    /// How others ordered the same answers.
    agreement: Share,
}

/// What a reward run left in `reward_report.json`, as far as it is shown here. Older ones lack some of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Preferences {
    /// How people ordered the same answers.
    agreement: Share,
    /// How it orders rankings that it never saw.
    held_out: Share,
    /// How it orders those of people of whom it saw none.
    held_out_new_labelers: Share,
    /// By pseudonym: the first digits of a hash of a person's id.
    labelers: BTreeMap<String, Labeler>,
    /// What it rewards: the answers that it likes most and least, and by how much length, flags and words go with its reward.
    #[schema(value_type = Option<Object>)]
    rewarded: Option<Rewarded>,
}

impl Preferences {
    /// The same with what each of these people is here: ids and roles.
    #[must_use]
    pub fn with_roles(mut self, people: &[(String, &str)]) -> Self {
        for (id, role) in people {
            if let Some(labeler) = self.labelers.get_mut(&pseudonym(id)) {
                labeler.role = Some((*role).to_owned());
            }
        }
        self
    }
}

/// Writes both parts.
pub(super) fn section(out: &mut String, preferences: &Preferences) {
    people(out, preferences);
    if let Some(rewarded) = preferences.rewarded.as_ref().filter(|r| r.answers > 0) {
        rewards(out, rewarded);
    }
}

fn people(out: &mut String, preferences: &Preferences) {
    let mut ranked: Vec<(&String, &Labeler)> = preferences.labelers.iter().filter(|(_, l)| l.rankings > 0).collect();
    if ranked.is_empty() {
        return;
    }
    ranked.sort_by(|a, b| b.1.rankings.cmp(&a.1.rankings).then(a.0.cmp(b.0)));
    let total: usize = ranked.iter().map(|(_, l)| l.rankings).sum();
    let agreement = match preferences.agreement {
        Share { pairs, .. } if pairs > 0.0 => {
            format!("People who ordered the same answers agree in {}.", preferences.agreement.in_words())
        }
        _ => "No two people ordered the same answers.".to_owned(),
    };
    let (n, plural) = (ranked.len(), if ranked.len() == 1 { "person" } else { "people" });
    let _ = write!(
        out,
        "<h2>Whose preferences</h2><p>The reward model reflects the {n} {plural} whose {total} rankings it learned from, and nobody \
         else. It orders held-out answers as people did in {}; in {} where it had learned from no ranking of that person. {}</p><table>",
        preferences.held_out.in_words(),
        preferences.held_out_new_labelers.in_words(),
        agreement
    );
    for (name, labeler) in ranked.iter().take(PEOPLE_MAX) {
        let role = labeler.role.as_deref().unwrap_or_default();
        let share = 100.0 * labeler.rankings as f64 / total as f64;
        let _ = write!(
            out,
            "<tr><td class=\"mono\">{}</td><td>{role}</td><td>{} rankings, {share:.0} %</td><td>held out: {}</td><td>agrees with \
             others in {}</td></tr>",
            escape(name),
            labeler.rankings,
            labeler.held_out.in_words(),
            labeler.agreement.in_words()
        );
    }
    let rest = n.saturating_sub(PEOPLE_MAX);
    let rest = if rest > 0 { format!(" {rest} more ranked less.") } else { String::new() };
    let _ = write!(
        out,
        "</table><p class=\"small soft\">Names are the first digits of a hash of each person's id; \"imports\" don't say who ranked.{rest}</p>"
    );
}

fn rewards(out: &mut String, rewarded: &Rewarded) {
    let what =
        if rewarded.of_training { "answers that it learned from, for want of others" } else { "held-out answers" };
    let _ = write!(
        out,
        "<h2>What the reward model rewards</h2><p>Measured on {} {what} to {} prompts, each answer against the others to its own \
         prompt.</p><table>",
        rewarded.answers, rewarded.prompts
    );
    let mut row = |name: &str, about: String, n: usize, e: [f64; 3]| {
        let [mean, low, high] = e.map(number);
        let _ = write!(
            out,
            "<tr><td>{about}</td><td>{}</td><td class=\"mono\">{mean} ({low} to {high})</td><td>{n} answers</td></tr>",
            escape(name)
        );
    };
    if let Some(e) = rewarded.length_correlation {
        row("length", "correlation with".into(), rewarded.answers, [e.mean, e.low, e.high]);
    }
    let mut effects = |all: &[Effect], about: &str| {
        for Effect { name, answers, difference: e } in all {
            row(name, about.to_owned(), *answers, [e.mean, e.low, e.high]);
        }
    };
    effects(&rewarded.flags, "reward of answers flagged");
    effects(&rewarded.words, "reward of answers with the word");
    out.push_str(
        "</table><p class=\"small soft\">Correlation from -1 to 1; the others are differences in reward to answers without it, of equal \
         length. Intervals: 95 %, of words 99.9 % because many are looked at. What goes together need not be the cause.</p>",
    );
    shown(out, "Liked most", &rewarded.most_liked);
    shown(out, "Liked least", &rewarded.least_liked);
}

fn shown(out: &mut String, title: &str, answers: &[Shown]) {
    if answers.is_empty() {
        return;
    }
    let _ = write!(out, "<h3>{title}</h3><br>");
    for Shown { prompt, answer, reward, tokens } in answers {
        let answer = if answer.trim().is_empty() { "(an empty answer)".to_owned() } else { escape(answer) };
        let _ = write!(
            out,
            "<section class=\"card sample\"><div class=\"prompt\"><p class=\"said\" dir=\"auto\">{}</p></div><div><p class=\"who\">reward {} \
             · {tokens} tokens</p><p class=\"said\" dir=\"auto\">{answer}</p></div></section>",
            escape(prompt),
            number(*reward)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOSTILE: &str = "<script>alert(1)</script>";

    fn preferences() -> Preferences {
        let of = |of: f64, pairs: f64| json!({"of": of, "pairs": pairs});
        let estimate = json!({"mean": -0.4, "low": -0.7, "high": -0.1});
        let shown = json!({"prompt": HOSTILE, "answer": HOSTILE, "reward": 2.5, "tokens": 12});
        let report = json!({
            "agreement": of(73.0, 100.0), "held_out": of(30.0, 40.0), "held_out_new_labelers": of(6.0, 10.0), "train": of(1.0, 1.0),
            "labelers": {
                pseudonym("ann"): {"rankings": 30, "held_out_rankings": 2, "held_out": of(4.0, 5.0), "agreement": of(0.0, 0.0)},
                pseudonym("bob"): {"rankings": 10},
                pseudonym("cid"): {"rankings": 0, "held_out_rankings": 4},
            },
            "rewarded": {
                "of_training": false, "answers": 80, "prompts": 20, "most_liked": [shown], "least_liked": [],
                "length_correlation": estimate, "words": [],
                "flags": [{"name": HOSTILE, "answers": 14, "difference": estimate}],
            },
        });
        serde_json::from_value(report).expect("reads")
    }

    #[test]
    fn a_page_says_who_ranked_and_what_is_rewarded() {
        let mut out = String::new();
        section(&mut out, &preferences().with_roles(&[("ann".into(), "labeler"), ("zoe".into(), "admin")]));
        let (ann, bob, cid) = (pseudonym("ann"), pseudonym("bob"), pseudonym("cid"));
        for wanted in [
            "the 2 people whose 40 rankings",
            "75 % of 40 pairs; in 60 % of 10 pairs",
            "agree in 73 % of 100 pairs",
            format!("{ann}</td><td>labeler</td><td>30 rankings, 75 %</td><td>held out: 80 % of 5 pairs").as_str(),
            format!("{bob}</td><td></td><td>10 rankings, 25 %</td><td>held out: no pairs").as_str(),
            "80 held-out answers to 20 prompts",
            "-0.4 (-0.7 to -0.1)",
            "reward 2.5",
        ] {
            assert!(out.contains(wanted), "{wanted} is missing in {out}");
        }
        assert!(!out.contains(&cid), "of Cid nothing was learned");
        assert!(!out.contains("<script") && out.contains("&lt;script&gt;"), "what was written stays text");
    }

    #[test]
    fn a_report_from_before_says_what_it_has() {
        let old: Preferences =
            serde_json::from_value(json!({"labelers": {"ab": {}}, "held_out": {"of": 1.0, "pairs": 2.0}}))
                .expect("reads");
        let mut out = String::new();
        section(&mut out, &old);
        assert_eq!(out, "");
    }
}
