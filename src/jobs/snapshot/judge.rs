//! Which rankings train the reward model that PPO optimises, and which train the **judge**: a second reward model that nothing is
//! optimised against, so that the gate can believe it. The further its people are from those of the first, the less the two share
//! of what people of one mind like; how far that goes is as far as there is enough data.

use super::{Item, SplitBy, is_held_out};
use hone_domain::RankedPrompt;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A judge of fewer rankings takes those of people it shares with the reward model too.
const RANKINGS_MIN: usize = 50;

/// What the judge has that the reward model never saw, the strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeBy {
    /// Other people ranked, and other people asked.
    LabelerAndUser,
    /// Other people ranked, other prompts.
    Labeler,
    /// Other prompts.
    Prompt,
}

impl JudgeBy {
    const ALL: [Self; 3] = [Self::LabelerAndUser, Self::Labeler, Self::Prompt];

    /// In words, after "rankings by".
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::LabelerAndUser => "people, of people's prompts, whom the reward model never saw",
            Self::Labeler => "labelers whom the reward model never saw, of prompts that it never saw",
            Self::Prompt => "the reward model's own labelers, of prompts that it never saw",
        }
    }
}

/// All rankings, by what they are for.
#[derive(Debug)]
pub(super) struct Parts {
    /// For the reward model.
    pub(super) train: Vec<RankedPrompt>,
    /// For the reward model's accuracy.
    pub(super) held_out: Vec<RankedPrompt>,
    /// For the judge; some are `held_out` too.
    pub(super) judge: Vec<RankedPrompt>,
    pub(super) judge_by: JudgeBy,
    /// Of held-out people, about prompts that are trained on: of no use.
    pub(super) on_both_sides: usize,
    /// Of labelers apart, about prompts of people who aren't: neither may see them.
    pub(super) of_neither: usize,
}

/// Where a ranking stands before it is known how strict the judge can be.
struct Placed {
    item: Item<RankedPrompt>,
    prompt_held_out: bool,
    labeler_apart: bool,
}

/// Splits rankings, whose prompts are split already: `trained` are the prompts of the training side. `nobody` stands for labelers whom
/// imports don't name; as they may be anybody, they are set apart from nobody.
pub(super) fn part(
    rankings: Vec<Item<RankedPrompt>>,
    by: SplitBy,
    trained: &HashSet<String>,
    nobody: Option<&str>,
) -> Parts {
    let before = rankings.len();
    let placed = |item: Item<RankedPrompt>| {
        let prompt_held_out = item.is_held_out(by);
        let labeler = item.value.labeler.as_str();
        // Who sends prompts and ranks them is on one side with both.
        let labeler_apart = Some(labeler) != nobody && is_held_out(labeler);
        let on_both_sides = prompt_held_out && trained.contains(&item.key);
        (!on_both_sides).then_some(Placed { item, prompt_held_out, labeler_apart })
    };
    let all: Vec<Placed> = rankings.into_iter().filter_map(placed).collect();
    let enough = |judge_by: &JudgeBy| {
        let (judge, train) = (of_judge(&all, *judge_by, by).len(), of_reward(&all, *judge_by).count());
        judge >= RANKINGS_MIN && train >= judge
    };
    let judge_by = JudgeBy::ALL.into_iter().find(enough).unwrap_or(JudgeBy::Prompt);
    let value = |placed: &Placed| placed.item.value.clone();
    let train: Vec<_> = of_reward(&all, judge_by).map(value).collect();
    let held_out: Vec<_> = all.iter().filter(|p| p.prompt_held_out).map(value).collect();
    let judge: Vec<_> = of_judge(&all, judge_by, by).into_iter().map(value).collect();
    let about_trained = judge_by != JudgeBy::Prompt;
    let of_neither = all.iter().filter(|p| about_trained && !p.prompt_held_out && p.labeler_apart).count();
    let judged_of_trained = of_judge(&all, judge_by, by).iter().filter(|p| !p.prompt_held_out).count();
    Parts {
        on_both_sides: before - all.len(),
        of_neither: of_neither - judged_of_trained,
        train,
        held_out,
        judge,
        judge_by,
    }
}

fn of_reward(all: &[Placed], judge_by: JudgeBy) -> impl Iterator<Item = &Placed> {
    all.iter().filter(move |p| !p.prompt_held_out && (judge_by == JudgeBy::Prompt || !p.labeler_apart))
}

fn of_judge(all: &[Placed], judge_by: JudgeBy, by: SplitBy) -> Vec<&Placed> {
    match judge_by {
        JudgeBy::LabelerAndUser if by == SplitBy::Prompt => Vec::new(),
        JudgeBy::LabelerAndUser => all.iter().filter(|p| p.labeler_apart && p.prompt_held_out).collect(),
        JudgeBy::Labeler => {
            let seen: HashSet<&str> = of_reward(all, judge_by).map(|p| p.item.key.as_str()).collect();
            all.iter().filter(|p| p.labeler_apart && !seen.contains(p.item.key.as_str())).collect()
        }
        JudgeBy::Prompt => all.iter().filter(|p| p.prompt_held_out).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::training_data::Origin;
    use hone_domain::{Message, Ranking};

    /// A ranking of `labeler`, of a prompt of `sender`.
    fn ranked(sender: usize, labeler: usize, n: usize) -> Item<RankedPrompt> {
        let value = RankedPrompt {
            messages: vec![Message::user(format!("question {sender} {n}"))],
            candidates: vec!["a".into(), "b".into()],
            ranking: Ranking::from_ranks(&[0, 1]).expect("ranks"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: format!("user_{labeler}"),
        };
        let origin = Origin { sender: Some(format!("user_{sender}")), vouched: false };
        Item { origin, key: format!("question {sender} {n}"), value }
    }

    fn labelers(rankings: &[RankedPrompt]) -> HashSet<&str> {
        rankings.iter().map(|r| r.labeler.as_str()).collect()
    }

    fn prompts(rankings: &[RankedPrompt]) -> HashSet<&str> {
        rankings.iter().map(|r| r.messages[0].content.as_str()).collect()
    }

    fn parts(items: Vec<Item<RankedPrompt>>, by: SplitBy) -> Parts {
        let trained = items.iter().filter(|i| !i.is_held_out(by)).map(|i| i.key.clone()).collect();
        part(items, by, &trained, Some("user_nobody"))
    }

    #[test]
    fn where_people_rank_their_own_the_judge_shares_nobody_and_nothing_is_lost() {
        let items: Vec<_> = (0..900).map(|i| ranked(i % 30, i % 30, i)).collect();
        let p = parts(items, SplitBy::User);
        assert_eq!((p.judge_by, p.of_neither, p.on_both_sides), (JudgeBy::LabelerAndUser, 0, 0));
        assert!(labelers(&p.train).is_disjoint(&labelers(&p.judge)));
        assert_eq!((p.train.len() + p.judge.len(), &p.held_out), (900, &p.judge));
    }

    #[test]
    fn labelers_of_others_prompts_are_apart_with_those_whose_prompts_they_are() {
        let items: Vec<_> = (0..4800).map(|i| ranked(i % 40, 100 + i / 40 % 60, i)).collect();
        let p = parts(items, SplitBy::User);
        assert_eq!(p.judge_by, JudgeBy::LabelerAndUser);
        assert!(
            labelers(&p.train).is_disjoint(&labelers(&p.judge)) && prompts(&p.train).is_disjoint(&prompts(&p.judge))
        );
        let senders = |all: &[RankedPrompt]| -> HashSet<String> {
            all.iter().map(|r| r.messages[0].content.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
        };
        assert!(senders(&p.train).is_disjoint(&senders(&p.judge)), "nor do they share those who asked");
        assert!(p.of_neither > 0);
    }

    #[test]
    fn with_less_the_judge_is_less_strict() {
        // The same, but too little where both are apart.
        let few: Vec<_> = (0..600).map(|i| ranked(i % 40, 100 + i / 10 % 60, i)).collect();
        let p = parts(few, SplitBy::User);
        assert_eq!((p.judge_by, p.of_neither), (JudgeBy::Labeler, 0));
        assert!(
            labelers(&p.train).is_disjoint(&labelers(&p.judge)) && prompts(&p.train).is_disjoint(&prompts(&p.judge))
        );
        let unnamed = (0..400).map(|i| Item {
            value: RankedPrompt { labeler: "user_nobody".into(), ..ranked(1, 1, i).value },
            ..ranked(1, 1, i)
        });
        assert!(parts(unnamed.collect(), SplitBy::Prompt).train.len() > 250, "nobody is on both sides");
        let one: Vec<_> = (0..200).map(|i| ranked(1, 1, i)).collect();
        let p = parts(one, SplitBy::Prompt);
        assert_eq!((p.judge_by, &p.judge), (JudgeBy::Prompt, &p.held_out));
        assert!(prompts(&p.train).is_disjoint(&prompts(&p.judge)));
        assert_eq!(p.train.len() + p.judge.len(), 200);
    }
}
