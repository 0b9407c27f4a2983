//! What the classifier sees of a text: which word and character n-grams are in it and how often, hashed into a table (Weinberger et al.
//! 2009, arXiv 0902.2206). Nothing is learned here. Pure.

use crate::LearnError;
use serde::{Deserialize, Serialize};

/// More would be a file of 16 MiB and longer n-grams than words have letters; fewer couldn't tell words apart.
const BITS: std::ops::RangeInclusive<u32> = 8..=24;

/// FNV-1a of 64 bits: its offset and prime (Fowler, Noll and Vo, draft-eastlake-fnv).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// 2^64 / golden ratio: spreads FNV's low bits to the high ones, of which the place is made (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which n-grams count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Features {
    /// The table has 2^bits places.
    pub bits: u32,
    /// Longest sequence of words.
    pub words_max: usize,
    /// Shortest sequence of characters, of a word with its ends marked.
    pub characters_min: usize,
    /// Longest one.
    pub characters_max: usize,
}

impl Default for Features {
    fn default() -> Self {
        Self { bits: 19, words_max: 2, characters_min: 2, characters_max: 5 }
    }
}

impl Features {
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), LearnError> {
        let bad = |name: &str, reason: &str| Err(LearnError::BadConfig { name: name.into(), reason: reason.into() });
        if !BITS.contains(&self.bits) {
            return bad("bits", "must be 8 to 24");
        }
        if !(1..=4).contains(&self.words_max) {
            return bad("words_max", "must be 1 to 4");
        }
        if self.characters_min == 0 || self.characters_max < self.characters_min || self.characters_max > 8 {
            return bad("characters_max", "must be at least characters_min, which is at least 1, and at most 8");
        }
        Ok(())
    }

    /// The text as places of the table and values, by place. Words and characters are apart: in each, an n-gram that occurs c times
    /// has 1 + ln c, and the whole has length 1. Empty for a text without a word.
    #[must_use]
    pub fn vector(&self, text: &str) -> Vec<(u32, f32)> {
        let tokens = tokens(text);
        let mut vector = normalised(self.words(&tokens));
        vector.extend(normalised(self.characters(&tokens)));
        vector
    }

    /// Places of all sequences of 1 to `words_max` words; a sign that is no letter is a word.
    fn words(&self, tokens: &[String]) -> Vec<u32> {
        let words: Vec<&str> = tokens.iter().flat_map(|t| words(t)).collect();
        let mut places = Vec::new();
        for n in 1..=self.words_max {
            places.extend(words.windows(n).map(|gram| {
                let start = fnv(FNV_OFFSET, &[n as u8]);
                self.place(gram.iter().fold(start, |hash, word| fnv(fnv(hash, word.as_bytes()), &[0])))
            }));
        }
        places
    }

    /// Places of all sequences of characters within `<word>`.
    fn characters(&self, tokens: &[String]) -> Vec<u32> {
        let mut places = Vec::new();
        for token in tokens {
            let marked = format!("<{token}>");
            let starts: Vec<usize> = marked.char_indices().map(|(i, _)| i).chain([marked.len()]).collect();
            for n in self.characters_min..=self.characters_max {
                for ends in starts.windows(n + 1) {
                    let gram = &marked.as_bytes()[ends[0]..ends[n]];
                    places.push(self.place(fnv(fnv(FNV_OFFSET, &[0]), gram)));
                }
            }
        }
        places
    }

    fn place(&self, hash: u64) -> u32 {
        (hash.wrapping_mul(GOLDEN) >> (64 - self.bits)) as u32
    }
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// In small letters, between spaces; without addresses and `@names`, and with a letter at most twice in a row.
fn tokens(text: &str) -> Vec<String> {
    let is_text = |t: &&str| !["http://", "https://", "www.", "@"].iter().any(|start| t.starts_with(start));
    text.to_lowercase().split_whitespace().filter(is_text).map(squeezed).collect()
}

fn squeezed(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    let (mut last, mut times) = (None, 0);
    for c in token.chars() {
        times = if last == Some(c) { times + 1 } else { 1 };
        last = Some(c);
        if times <= 2 {
            out.push(c);
        }
    }
    out
}

/// Runs of letters, digits and apostrophes; every other character alone.
fn words(token: &str) -> Vec<&str> {
    let inside = |c: char| c.is_alphanumeric() || c == '\'';
    let (mut words, mut rest) = (Vec::new(), token);
    while let Some(first) = rest.chars().next() {
        let end = if inside(first) { rest.find(|c| !inside(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after;
    }
    words
}

/// 1 + ln c. In f64, so that math libraries which differ in a last bit give the same f32.
fn dampened(times: usize) -> f32 {
    (1.0 + (times as f64).ln()) as f32
}

/// Counts equal places and scales the whole to length 1.
fn normalised(mut places: Vec<u32>) -> Vec<(u32, f32)> {
    places.sort_unstable();
    let counted = places.chunk_by(|a, b| a == b).map(|same| (same[0], dampened(same.len())));
    let mut vector: Vec<(u32, f32)> = counted.collect();
    let length = vector.iter().map(|(_, x)| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|(_, x)| *x /= length);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_words_and_their_parts() {
        assert_eq!(tokens("See HTTPS://x.y @ann  sooooo GOOD!!!!"), ["see", "soo", "good!!"]);
        assert_eq!(words("don't,stop…é"), ["don't", ",", "stop", "…", "é"]);
        let features = Features::default();
        let of = |text: &str| features.vector(text);
        assert_eq!(of("Good  day"), of("good day"));
        assert!(of("good day") != of("day good"), "their order is in the pairs");
        assert!(of(" \n").is_empty() && of("@all https://x.y").is_empty());
        assert!(of("größe 😀").iter().all(|&(place, x)| place < 1 << 19 && x > 0.0));
    }

    #[test]
    fn each_of_the_two_parts_has_length_one_and_repeats_count_less() {
        let features = Features { words_max: 1, characters_min: 1, characters_max: 1, ..Features::default() };
        let vector = features.vector("a a a b");
        let length: f32 = vector.iter().map(|(_, x)| x * x).sum();
        assert!((length - 2.0).abs() < 1e-6, "words and characters: {length}");
        let words = normalised(features.words(&tokens("a a a b")));
        let mut values: Vec<f32> = words.iter().map(|(_, x)| *x).collect();
        values.sort_by(f32::total_cmp);
        assert!((values[1] / values[0] - (1.0 + 3f32.ln())).abs() < 1e-5, "{values:?}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let name = |f: Features| f.check().expect_err("must be refused").to_string();
        assert!(name(Features { bits: 40, ..Features::default() }).contains("bits"));
        assert!(name(Features { words_max: 0, ..Features::default() }).contains("words_max"));
        assert!(name(Features { characters_min: 6, ..Features::default() }).contains("characters_max"));
    }
}
