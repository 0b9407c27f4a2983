//! What a reward model rewards, in words: the answers that it likes most and least, and what goes with its reward among answers to
//! one prompt: their length, the flags that labelers gave them, the words in them. Pure functions over numbers and texts.

use crate::evaluate::{Estimate, Z95};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Answers that are shown, of each kind.
const SHOWN: usize = 5;
/// Longer texts are cut, characters.
const CHARACTERS_MAX: usize = 600;
/// Words and flags in fewer answers, or missing from fewer, say nothing.
const ANSWERS_MIN: usize = 10;
/// Words that are listed, of each kind.
const WORDS_MAX: usize = 12;
/// Two-sided 99.9 % quantile of the normal distribution: of a thousand words that mean nothing about one is listed.
const Z999: f64 = 3.290_526_731_491_926;

/// An answer with its reward.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    /// Which of the prompts, counted from 0.
    pub(crate) group: usize,
    /// The prompt's last message.
    pub(crate) prompt: String,
    pub(crate) answer: String,
    pub(crate) reward: f64,
    pub(crate) tokens: f64,
    pub(crate) flags: Vec<String>,
}

/// What is rewarded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewarded {
    /// Whether it is about answers that were trained on, for want of held-out ones.
    pub of_training: bool,
    /// Answers that it is about.
    pub answers: usize,
    /// Prompts that they answer.
    pub prompts: usize,
    /// With the highest reward, the highest first.
    pub most_liked: Vec<Shown>,
    /// With the lowest reward, the lowest first.
    pub least_liked: Vec<Shown>,
    /// Correlation of reward with length in tokens among answers to one prompt, -1..1, with its 95 % interval.
    pub length_correlation: Option<Estimate>,
    /// Of each flag that labelers gave to enough answers: what it goes with, 95 %.
    pub flags: Vec<Effect>,
    /// Words that go with more reward or less, 99.9 %, the surest first.
    pub words: Vec<Effect>,
}

/// An answer that is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The prompt's last message, cut where it is long.
    pub prompt: String,
    /// The answer, cut where it is long.
    pub answer: String,
    /// Its reward (mean 0, deviation 1 on the answers that were trained on, unless the run's settings say otherwise).
    pub reward: f64,
    /// Its length.
    pub tokens: usize,
}

/// By how much the reward of answers with something differs from that of answers without, to the same prompt and of the same length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The flag or word.
    pub name: String,
    /// Answers that have it.
    pub answers: usize,
    /// The difference in reward, and its interval.
    pub difference: Estimate,
}

/// Finds out.
pub(crate) fn rewarded(answers: &[Judged], of_training: bool) -> Rewarded {
    let prompts = answers.iter().map(|a| a.group).collect::<BTreeSet<_>>().len();
    let mut order: Vec<&Judged> = answers.iter().collect();
    order.sort_by(|a, b| b.reward.total_cmp(&a.reward));
    let shown = SHOWN.min(answers.len() / 2);
    let within = Within::new(answers, prompts);
    let with = |mut effects: Vec<Effect>, most: usize| {
        effects.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
        effects.truncate(most);
        effects
    };
    let flags = having(answers, |a| a.flags.iter().cloned().collect());
    let words = having(answers, |a| words(&a.answer));
    let of = |places: &BTreeMap<String, Vec<usize>>, z: f64| -> Vec<Effect> {
        places.iter().filter_map(|(name, at)| within.effect(name, at, z)).collect()
    };
    let surely = of(&words, Z999).into_iter().filter(|e| e.difference.low > 0.0 || e.difference.high < 0.0);
    Rewarded {
        of_training,
        answers: answers.len(),
        prompts,
        most_liked: order.iter().take(shown).map(|a| show(a)).collect(),
        least_liked: order.iter().rev().take(shown).map(|a| show(a)).collect(),
        length_correlation: within.length_correlation(),
        flags: with(of(&flags, Z95), usize::MAX),
        words: with(surely.collect(), 2 * WORDS_MAX),
    }
}

fn show(a: &Judged) -> Shown {
    Shown { prompt: cut(&a.prompt), answer: cut(&a.answer), reward: a.reward, tokens: a.tokens as usize }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Small letters, digits and apostrophes in a row, of either kind: a typesetter's apostrophe doesn't end a word.
fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    let words = lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')).map(|w| w.trim_matches('\''));
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// In which answers each name is.
fn having(answers: &[Judged], names: impl Fn(&Judged) -> BTreeSet<String>) -> BTreeMap<String, Vec<usize>> {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, answer) in answers.iter().enumerate() {
        names(answer).into_iter().for_each(|name| places.entry(name).or_default().push(i));
    }
    places
}

/// How many half-widths of its interval an effect is away from none.
fn sureness(e: &Effect) -> f64 {
    (e.difference.mean / (e.difference.high - e.difference.low).max(f64::MIN_POSITIVE)).abs()
}

/// Rewards and lengths less their means over the answers to the same prompt: what a prompt is like plays no part, as it plays none
/// where a policy chooses among answers.
struct Within {
    groups: Vec<usize>,
    rewards: Vec<f64>,
    lengths: Vec<f64>,
    /// Rewards less what length alone explains.
    rest: Vec<f64>,
    /// n - prompts: what is left when each prompt has its own mean.
    freedom: f64,
}

impl Within {
    fn new(answers: &[Judged], prompts: usize) -> Self {
        let groups: Vec<usize> = answers.iter().map(|a| a.group).collect();
        let rewards = centred(&groups, &answers.iter().map(|a| a.reward).collect::<Vec<_>>());
        let lengths = centred(&groups, &answers.iter().map(|a| a.tokens).collect::<Vec<_>>());
        let rest = without(&rewards, &lengths);
        Self { groups, rewards, lengths, rest, freedom: answers.len() as f64 - prompts as f64 }
    }

    /// Pearson's r of the centred values, a partial correlation given the prompt; Fisher's interval with deviation
    /// 1 / sqrt(n - prompts - 2) (Fisher 1924: a variable that is held fixed costs one observation).
    fn length_correlation(&self) -> Option<Estimate> {
        let (rr, ll) = (dot(&self.rewards, &self.rewards), dot(&self.lengths, &self.lengths));
        if rr <= 0.0 || ll <= 0.0 || self.freedom <= 2.0 {
            return None;
        }
        let r = (dot(&self.rewards, &self.lengths) / (rr.sqrt() * ll.sqrt())).clamp(-1.0, 1.0);
        let (z, half) = (r.atanh(), Z95 / (self.freedom - 2.0).sqrt());
        Some(Estimate { mean: r, low: (z - half).tanh(), high: (z + half).tanh() })
    }

    /// The coefficient of "has it" in a least-squares fit of the reward on it, length, and a mean for each prompt (Frisch and Waugh 1933:
    /// all but the first are taken out beforehand), with `z` standard errors on either side.
    fn effect(&self, name: &str, having: &[usize], z: f64) -> Option<Effect> {
        let (n, freedom) = (self.groups.len(), self.freedom - 2.0);
        if having.len() < ANSWERS_MIN || n - having.len() < ANSWERS_MIN || freedom < 1.0 {
            return None;
        }
        let mut has = vec![0.0; n];
        having.iter().for_each(|&i| has[i] = 1.0);
        let has = without(&centred(&self.groups, &has), &self.lengths);
        let spread = dot(&has, &has);
        // Next to nothing is left where all answers to a prompt have it, or none.
        if spread < 1.0 {
            return None;
        }
        let mean = dot(&has, &self.rest) / spread;
        let unexplained = (dot(&self.rest, &self.rest) - mean * mean * spread).max(0.0);
        let half = z * (unexplained / freedom / spread).sqrt();
        let difference = Estimate { mean, low: mean - half, high: mean + half };
        Some(Effect { name: name.to_owned(), answers: having.len(), difference })
    }
}

/// Each less the mean of its group.
fn centred(groups: &[usize], xs: &[f64]) -> Vec<f64> {
    let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (group, x) in groups.iter().zip(xs) {
        let sum = sums.entry(*group).or_default();
        *sum = (sum.0 + x, sum.1 + 1.0);
    }
    groups.iter().zip(xs).map(|(group, x)| x - sums[group].0 / sums[group].1).collect()
}

/// Less its projection on `on`.
fn without(xs: &[f64], on: &[f64]) -> Vec<f64> {
    let square = dot(on, on);
    let slope = if square > 0.0 { dot(xs, on) / square } else { 0.0 };
    xs.iter().zip(on).map(|(x, o)| x - slope * o).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRIM: &str = "grim";

    /// Forty prompts with four answers: half of them say "sorry" (reward +1), the reward falls by 0.1 a token, and each prompt has a
    /// level of its own, far larger than both. `flagged` answers lose 2.
    fn answers(texts: &[String], flags: &[Vec<String>]) -> Vec<(usize, f64, f64)> {
        let one = |i: usize| {
            let (group, tokens) = (i / 4, 5.0 + ((i * 7) % 11) as f64);
            let sorry = f64::from(u8::from(texts[i].contains("sorry")));
            let flagged = f64::from(u8::from(!flags[i].is_empty()));
            // Something that is neither, and sums to about nothing.
            let rest = (((i * 31) % 17) as f64 - 8.0) / 40.0;
            (group, 10.0 * ((group % 7) as f64) + sorry - 0.1 * tokens - 2.0 * flagged + rest, tokens)
        };
        (0..texts.len()).map(one).collect()
    }

    fn found() -> Rewarded {
        let text =
            |i: usize| if (i + i / 4).is_multiple_of(2) { format!("I'm sorry, no {i}") } else { format!("yes {i}") };
        let texts: Vec<String> = (0..160).map(text).collect();
        let flags: Vec<Vec<String>> =
            (0..160).map(|i| if i % 13 == 3 { vec![GRIM.to_owned()] } else { Vec::new() }).collect();
        let figures = answers(&texts, &flags);
        let judged = |(i, &(group, reward, tokens)): (usize, &(usize, f64, f64))| Judged {
            group,
            prompt: "why?".into(),
            answer: texts[i].clone(),
            reward,
            tokens,
            flags: flags[i].clone(),
        };
        rewarded(&figures.iter().enumerate().map(judged).collect::<Vec<_>>(), false)
    }

    #[test]
    fn what_goes_with_reward_is_found_whatever_the_prompts_are_like() {
        let found = found();
        assert_eq!((found.answers, found.prompts), (160, 40));
        let length = found.length_correlation.expect("lengths differ");
        assert!(length.high < 0.0, "{length:?}");
        let flag = &found.flags[0];
        assert_eq!((flag.name.as_str(), found.flags.len()), (GRIM, 1));
        assert!((flag.difference.mean + 2.0).abs() < 0.6 && flag.difference.high < 0.0, "{flag:?}");
        let named = |name: &str| found.words.iter().find(|w| w.name == name);
        let sorry = named("sorry").expect("it is listed");
        assert!((sorry.difference.mean - 1.0).abs() < 0.4 && sorry.answers == 80, "{sorry:?}");
        assert!(named("yes").is_some_and(|w| w.difference.high < 0.0));
        assert!(named("17").is_none(), "one answer says nothing");
    }

    #[test]
    fn an_apostrophe_of_either_kind_is_in_the_middle_of_a_word() {
        let found = words("It\u{2019}s a \u{2018}dog\u{2019}s\u{2019} life, isn't it? 'Yes'");
        let expected = ["a", "dog's", "isn't", "it", "it's", "life", "yes"];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    #[test]
    fn the_extremes_are_shown_in_order_and_cut() {
        let long = "x".repeat(5000);
        let one = |i: usize| Judged {
            group: i,
            prompt: "p".into(),
            answer: long.clone(),
            reward: i as f64,
            tokens: 3.0,
            flags: Vec::new(),
        };
        let found = rewarded(&(0..20).map(one).collect::<Vec<_>>(), true);
        let rewards = |shown: &[Shown]| shown.iter().map(|s| s.reward).collect::<Vec<_>>();
        assert_eq!(rewards(&found.most_liked), [19.0, 18.0, 17.0, 16.0, 15.0]);
        assert_eq!(rewards(&found.least_liked), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(found.most_liked[0].answer.chars().count(), CHARACTERS_MAX + 1);
        assert_eq!((found.length_correlation, found.of_training), (None, true), "one answer a prompt");
        assert_eq!(rewarded(&[], false), Rewarded::default());
    }
}
