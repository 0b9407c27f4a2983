//! Prompts that were computed lately, so that the k answers of a comparison, and the next turn of a chat, don't compute them again.
//! May use: learn. What is taken from here is what would be computed, to the bit, since a token's bits depend on those before it alone.

use crate::policy::Weights;
use hone_learn::generate::Session;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Memory of all prompts that are kept (about 46 KB a token of a model of 135M parameters).
pub(crate) const BYTES_MAX: usize = 128 << 20;

/// The number of tokens with which both begin.
pub(crate) fn same_tokens(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The prompts, the latest used last.
pub(crate) struct Prompts {
    all: VecDeque<Kept>,
    bytes_max: usize,
}

struct Kept {
    /// Which policy's. Doesn't keep it in memory.
    weights: Weak<Weights>,
    tokens: Vec<u32>,
    session: Session,
    /// Of what follows the last token.
    logits: Vec<f32>,
}

/// Where to go on.
pub(crate) struct Found {
    /// The tokens that are computed already.
    pub(crate) session: Session,
    /// What follows them, where that is the whole prompt.
    pub(crate) logits: Option<Vec<f32>>,
}

impl Prompts {
    /// None yet.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { all: VecDeque::new(), bytes_max }
    }

    /// The longest usable beginning of a prompt under a policy.
    pub(crate) fn find(&mut self, weights: &Arc<Weights>, prompt: &[u32]) -> Option<Found> {
        self.all.retain(|kept| kept.weights.strong_count() > 0);
        let of_policy = |kept: &Kept| std::ptr::eq(kept.weights.as_ptr(), Arc::as_ptr(weights));
        let of_policy = (0..self.all.len()).filter(|&i| of_policy(&self.all[i]));
        let usable = of_policy.map(|i| (self.all[i].usable(prompt), i)).filter(|(usable, _)| *usable > 0);
        let (usable, at) = usable.max()?;
        let kept = self.all.remove(at)?;
        let whole = usable == prompt.len();
        let found = Found { session: kept.session.prefix(usable), logits: whole.then(|| kept.logits.clone()) };
        self.all.push_back(kept);
        Some(found)
    }

    /// Keeps a prompt that was computed; the ones that weren't used for the longest time make room for it.
    pub(crate) fn keep(&mut self, weights: &Arc<Weights>, tokens: &[u32], session: &Session, logits: &[f32]) {
        if session.bytes() > self.bytes_max {
            return;
        }
        let (tokens, session, logits) = (tokens.to_vec(), session.clone(), logits.to_vec());
        self.all.push_back(Kept { weights: Arc::downgrade(weights), tokens, session, logits });
        while self.all.iter().map(|kept| kept.session.bytes()).sum::<usize>() > self.bytes_max {
            self.all.pop_front();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }
}

impl Kept {
    /// How many of the prompt's first tokens it has computed.
    fn usable(&self, prompt: &[u32]) -> usize {
        if self.tokens == prompt {
            return prompt.len();
        }
        // At least one token is left, whose logits are needed.
        same_tokens(&self.tokens, prompt).min(prompt.len() - 1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::LoadedBase;
    use hone_learn::{Base, Workspace, tiny};
    use hone_text::ChatTokenizer;

    /// A tiny base alone.
    pub(crate) fn weights() -> Arc<Weights> {
        let dir = tempfile::tempdir().expect("a temp folder");
        tiny::write(dir.path(), &tiny::TinySpec { context: 1024, ..tiny::TinySpec::default() }).expect("a tiny base");
        let tokenizer = ChatTokenizer::open(dir.path()).expect("opens");
        let base = Base::open_to_serve(dir.path(), None).expect("opens");
        Arc::new(Weights { base: Arc::new(LoadedBase { base, tokenizer }), adapter: None })
    }

    fn computed(weights: &Weights, tokens: &[u32]) -> (Session, Vec<f32>) {
        let mut session = Session::new(&weights.base.base);
        let logits = session.prefill(&weights.base.base, None, tokens, &mut Workspace::new()).expect("computes");
        (session, logits)
    }

    #[test]
    fn a_prompt_goes_on_where_another_began_alike() {
        let (ours, theirs) = (weights(), weights());
        let prompt: Vec<u32> = (0..300).map(|i| 5 + i % 20).collect();
        let (session, logits) = computed(&ours, &prompt);
        let mut prompts = Prompts::new(BYTES_MAX);
        prompts.keep(&ours, &prompt, &session, &logits);
        let whole = prompts.find(&ours, &prompt).expect("the whole");
        assert_eq!((whole.session.len(), whole.logits.as_ref()), (300, Some(&logits)));
        assert!(prompts.find(&theirs, &prompt).is_none(), "another policy's");
        let beginning = prompts.find(&ours, &prompt[..128]).expect("all but its last token");
        assert_eq!((beginning.session.len(), beginning.logits), (127, None), "a prompt's last token is computed");
        let mut longer = prompt[..211].to_vec();
        longer.extend([7, 8, 9]);
        let found = prompts.find(&ours, &longer).expect("what is the same");
        assert_eq!((found.session.len(), found.logits), (211, None));
        // What goes on from it is what would have been computed.
        let (base, mut ws, mut session) = (&ours.base.base, Workspace::new(), found.session);
        let logits = session.prefill(base, None, &longer[211..], &mut ws).expect("computes");
        assert_eq!(logits, computed(&ours, &longer).1);
    }

    #[test]
    fn what_was_not_used_for_long_makes_room_and_unloaded_policies_leave() {
        let ours = weights();
        let prompts_of = |first: u32| -> Vec<u32> { (0..20).map(|i| 5 + (first + i) % 20).collect() };
        let (session, logits) = computed(&ours, &prompts_of(0));
        let mut prompts = Prompts::new(2 * session.bytes());
        for first in [0, 1] {
            prompts.keep(&ours, &prompts_of(first), &session, &logits);
        }
        assert!(prompts.find(&ours, &prompts_of(0)).is_some());
        prompts.keep(&ours, &prompts_of(2), &session, &logits);
        assert!(prompts.find(&ours, &prompts_of(1)).is_none(), "used least lately");
        assert!(prompts.find(&ours, &prompts_of(0)).is_some());
        drop(ours);
        prompts.find(&weights(), &prompts_of(0));
        assert!(prompts.all.is_empty());
    }
}
