//! From logits to a token. Every engine draws with this one sampler, so that the same logits, parameters and seed give the
//! same token whichever engine computed them.

use crate::constraint::Allowed;
use hone_domain::Sampling;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::borrow::Cow;
use std::collections::HashMap;
use wide::f32x8;

/// Draws the tokens of one answer.
pub struct Sampler {
    temperature: f64,
    top_p: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    /// How many likely tokens to report; `None`: no log-probabilities at all.
    top: Option<usize>,
    /// Tokens that may be drawn are those below: a model's output may have rows that the tokenizer has no token for.
    vocab: usize,
    /// How often each token has occurred in the answer.
    seen: HashMap<u32, u32>,
    rng: ChaCha8Rng,
}

/// A drawn token.
#[derive(Debug, Clone, PartialEq)]
pub struct Picked {
    /// The token.
    pub token: u32,
    /// Its log-probability under the model itself (temperature 1, no penalty, nothing cut off), where asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens, likeliest first, with such log-probabilities.
    pub top: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler for one answer over a vocabulary of `vocab` tokens. Without a seed each answer is another.
    #[must_use]
    pub fn new(sampling: &Sampling, vocab: usize) -> Self {
        let Sampling {
            temperature,
            top_p,
            presence_penalty,
            frequency_penalty,
            logprobs,
            seed,
            max_tokens: _,
            stop: _,
            format: _,
        } = sampling;
        Self {
            temperature: *temperature,
            top_p: *top_p,
            presence_penalty: *presence_penalty,
            frequency_penalty: *frequency_penalty,
            top: *logprobs,
            vocab,
            seen: HashMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed.unwrap_or_else(rand::random)),
        }
    }

    /// Draws the next token; `None` when the logits are broken (NaN, or nothing finite).
    ///
    /// # Shapes
    /// `logits` (vocabulary).
    pub fn pick(&mut self, logits: &[f32]) -> Option<Picked> {
        self.pick_among(logits, None)
    }

    /// The same of the `allowed` tokens only.
    pub(crate) fn pick_among(&mut self, logits: &[f32], allowed: Option<&Allowed>) -> Option<Picked> {
        let raw = &logits[..logits.len().min(self.vocab)];
        let mut penalised = self.penalised(raw);
        if let Some(allowed) = allowed {
            let others = penalised.to_mut().iter_mut().enumerate().filter(|(token, _)| !allowed.has(*token));
            others.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }
        let best = argmax(&penalised)?;
        let token = if self.temperature > 0.0 { self.draw(&penalised, penalised[best])? } else { best };
        let token = u32::try_from(token).ok()?;
        *self.seen.entry(token).or_default() += 1;
        let (logprob, top) = match self.top {
            Some(n) => {
                let normaliser = log_sum_exp(logits)?;
                (Some(logprob(raw[token as usize], normaliser)), likeliest(raw, n, normaliser))
            }
            None => (None, Vec::new()),
        };
        Some(Picked { token, logprob, top })
    }

    /// Logits less the penalties of the tokens that have occurred (OpenAI's definition:
    /// count * frequency + (count > 0) * presence).
    fn penalised<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        if self.frequency_penalty == 0.0 && self.presence_penalty == 0.0 {
            return Cow::Borrowed(logits);
        }
        let mut logits = logits.to_vec();
        for (&token, &count) in &self.seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                let penalty = f64::from(count) * self.frequency_penalty + self.presence_penalty;
                *logit = (f64::from(*logit) - penalty) as f32;
            }
        }
        Cow::Owned(logits)
    }

    /// Draws from softmax(logits / temperature), cut to the nucleus (Holtzman et al. 2019): the likeliest tokens up to
    /// and with the one that reaches the mass `top_p`.
    fn draw(&mut self, logits: &[f32], max: f32) -> Option<usize> {
        let weights = Weights::of(logits, max, self.temperature);
        let mass = weights.mass();
        if !mass.is_finite() {
            return None;
        }
        if self.top_p >= 1.0 {
            return weights.at(self.uniform() * mass);
        }
        let nucleus = weights.nucleus(mass, self.top_p);
        let mut left = self.uniform() * nucleus.iter().map(|(_, weight)| weight).sum::<f64>();
        let drawn = nucleus.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a crumb of mass past the last token.
        drawn.or(nucleus.last()).map(|(token, _)| *token)
    }

    /// Uniform in [0, 1), 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Tokens whose weights are summed together: a draw walks over the sums first.
const BLOCK: usize = 64;

/// softmax(logits / temperature) but for its normaliser: the likeliest token weighs 1. A vocabulary's exponentials cost as much as
/// a small model's attention, so they are computed eight at a time, in f32; their sums are in f64.
struct Weights {
    each: Vec<f32>,
    blocks: Vec<f64>,
}

impl Weights {
    fn of(logits: &[f32], max: f32, temperature: f64) -> Self {
        // Far below what changes a draw, and still a number that can be divided by.
        let temperature = f32x8::splat((temperature as f32).max(1e-20));
        let mut each = Vec::with_capacity(logits.len() + 8);
        for eight in logits.chunks(8) {
            let mut lanes = [f32::NEG_INFINITY; 8];
            lanes[..eight.len()].copy_from_slice(eight);
            each.extend(((f32x8::new(lanes) - f32x8::splat(max)) / temperature).exp().to_array());
        }
        each.truncate(logits.len());
        let blocks = each.chunks(BLOCK).map(|block| block.iter().map(|&w| f64::from(w)).sum()).collect();
        Self { each, blocks }
    }

    fn mass(&self) -> f64 {
        self.blocks.iter().sum()
    }

    /// The token at which the running sum passes `left`; where rounding leaves a crumb past the last token, the last that weighs.
    fn at(&self, mut left: f64) -> Option<usize> {
        let block = self.blocks.iter().position(|&sum| {
            let here = left < sum;
            left -= if here { 0.0 } else { sum };
            here
        });
        let start = block.map_or(self.each.len(), |block| block * BLOCK);
        let drawn = self.each[start..].iter().position(|&weight| {
            left -= f64::from(weight);
            left < 0.0
        });
        drawn.map(|at| start + at).or_else(|| self.each.iter().rposition(|&weight| weight > 0.0))
    }

    /// The likeliest tokens up to and with the one that reaches the share `top_p` of the mass, likeliest first.
    fn nucleus(&self, mass: f64, top_p: f64) -> Vec<(usize, f64)> {
        // n tokens each below (1 - p) / n hold less than 1 - p together, so the nucleus has none of them: few are left to sort.
        let least = mass * (1.0 - top_p) / self.each.len() as f64;
        let all = self.each.iter().map(|&weight| f64::from(weight)).enumerate();
        let mut tokens: Vec<(usize, f64)> = all.filter(|(_, weight)| *weight >= least).collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let (mut held, wanted) = (0.0, mass * top_p);
        let inside = tokens.iter().take_while(|(_, weight)| {
            let before = held < wanted;
            held += weight;
            before
        });
        let inside = inside.count();
        tokens.truncate(inside);
        tokens
    }
}

/// The first largest logit; `None` if there is no finite one or a NaN.
fn argmax(logits: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, logit) in logits.iter().enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY {
            return None;
        }
        if best.is_none_or(|b| *logit > logits[b]) {
            best = Some(i);
        }
    }
    best.filter(|&b| logits[b].is_finite())
}

fn log_sum_exp(logits: &[f32]) -> Option<f64> {
    let max = f64::from(logits[argmax(logits)?]);
    Some(max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln())
}

fn logprob(logit: f32, normaliser: f64) -> f32 {
    (f64::from(logit) - normaliser) as f32
}

/// The `n` likeliest tokens, likeliest first.
fn likeliest(logits: &[f32], n: usize, normaliser: f64) -> Vec<(u32, f32)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if n > 0 && n < order.len() {
        order.select_nth_unstable_by(n - 1, by_logit);
    }
    order.truncate(n);
    order.sort_by(by_logit);
    order.into_iter().filter_map(|i| Some((u32::try_from(i).ok()?, logprob(logits[i], normaliser)))).collect()
}

/// log p(target) under softmax(logits), temperature 1, in nats; `None` when the logits are broken or `target` has none.
///
/// # Shapes
/// `logits` (vocabulary).
#[must_use]
pub fn logprob_of(logits: &[f32], target: u32) -> Option<f32> {
    let logit = *logits.get(target as usize)?;
    Some(logprob(logit, log_sum_exp(logits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(set: impl FnOnce(&mut Sampling)) -> Sampler {
        let mut sampling = Sampling { seed: Some(7), ..Sampling::default() };
        set(&mut sampling);
        Sampler::new(&sampling, 4)
    }

    /// Shares of 20,000 draws, each as the first token of an answer.
    fn shares(set: impl Fn(&mut Sampling), logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        let mut sampler = sampler(&set);
        for _ in 0..20_000 {
            sampler.seen.clear();
            counts[sampler.pick(logits).expect("finite").token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(shares: &[f64], expected: &[f64]) {
        // Standard error of a share is at most 0.0035: this is five of them.
        assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.018), "{shares:?} {expected:?}");
    }

    /// Logits of tokens with the probabilities .5 .3 .15 .05.
    fn logits() -> [f32; 4] {
        [0.5, 0.3, 0.15, 0.05].map(f32::ln)
    }

    #[test]
    fn draws_with_the_softmax_at_its_temperature() {
        close(&shares(|_| {}, &logits()), &[0.5, 0.3, 0.15, 0.05]);
        // At T = 0.5 the probabilities are squared and normalised.
        let squares = [0.25, 0.09, 0.0225, 0.0025].map(|p| p / 0.365);
        close(&shares(|s| s.temperature = 0.5, &logits()), &squares);
        assert_eq!(shares(|s| s.temperature = 0.0, &logits())[0].round(), 1.0);
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_with_the_mass() {
        let shares_at = |p: f64| shares(|s| s.top_p = p, &[logits()[2], logits()[0], logits()[3], logits()[1]]);
        close(&shares_at(0.7), &[0.0, 0.625, 0.0, 0.375]);
        close(&shares_at(0.81), &[0.15 / 0.95, 0.5 / 0.95, 0.0, 0.3 / 0.95]);
        close(&shares_at(0.49), &[0.0, 1.0, 0.0, 0.0]);
        close(&shares_at(1e-9), &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn penalties_count_what_occurred() {
        let mut s = sampler(|s| {
            s.temperature = 0.0;
            s.frequency_penalty = 1.0;
        });
        let drawn: Vec<u32> = (0..4).filter_map(|_| s.pick(&[1.5, 1.0, -9.0, -9.0])).map(|p| p.token).collect();
        assert_eq!(drawn, [0, 1, 0, 1], "1.5, then .5 < 1, then .5 > 0, then -.5 < 0");
        let mut s = sampler(|s| {
            s.temperature = 0.0;
            s.presence_penalty = 1.0;
        });
        let drawn: Vec<u32> = (0..4).filter_map(|_| s.pick(&[1.5, 1.0, -9.0, -9.0])).map(|p| p.token).collect();
        assert_eq!(drawn, [0, 1, 0, 0], "once is enough for presence");
    }

    #[test]
    fn logprobs_are_the_models_own() {
        let mut s = sampler(|s| {
            s.temperature = 0.0;
            s.logprobs = Some(2);
            s.frequency_penalty = 2.0;
        });
        for _ in 0..2 {
            let picked = s.pick(&logits()).expect("finite");
            let p = picked.logprob.expect("asked for").exp();
            assert!((p - [0.5, 0.3][picked.token as usize]).abs() < 1e-5);
            let top: Vec<(u32, f32)> = picked.top.iter().map(|(t, l)| (*t, l.exp())).collect();
            assert!(top[0].0 == 0 && top[1].0 == 1 && top.len() == 2, "{top:?}");
        }
        assert!((logprob_of(&logits(), 3).expect("in range") + 2.995_732).abs() < 1e-4);
        assert_eq!(logprob_of(&logits(), 4), None);
    }

    #[test]
    fn broken_logits_are_told_and_rows_past_the_vocabulary_never_drawn() {
        assert_eq!(sampler(|_| {}).pick(&[0.0, f32::NAN]), None);
        assert_eq!(sampler(|_| {}).pick(&[f32::NEG_INFINITY; 4]), None);
        assert_eq!(sampler(|_| {}).pick(&[]), None);
        let masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 99.0];
        assert_eq!(sampler(|_| {}).pick(&masked).expect("one is finite").token, 1);
    }

    #[test]
    fn a_draw_is_where_the_running_sum_passes() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 997) as f32 / 100.0).collect();
        let weights = Weights::of(&logits, 9.96, 0.7);
        let exact: Vec<f64> = logits.iter().map(|&l| ((f64::from(l) - 9.96) / 0.7).exp()).collect();
        assert!((weights.mass() / exact.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        let mut passed = 0.0;
        for (token, &weight) in weights.each.iter().enumerate() {
            let middle = passed + f64::from(weight) / 2.0;
            assert_eq!(weights.at(middle), Some(token));
            passed += f64::from(weight);
        }
        assert_eq!(weights.at(weights.mass() * 2.0), Some(999), "a crumb past the end");
        assert_eq!(Weights::of(&[0.0, -1.0], 0.0, 1e-300).at(0.5), Some(0), "the coldest temperature");
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| {
            let mut s = sampler(|s| s.seed = seed);
            (0..32).filter_map(|_| s.pick(&[0.0; 4])).map(|p| p.token).collect::<Vec<_>>()
        };
        assert_eq!(run(Some(1)), run(Some(1)));
        assert_ne!(run(Some(1)), run(Some(2)));
        assert_ne!(run(None), run(None));
    }
}
