//! The shapes of a line. Pure: one JSON object in, one ranking or demonstration out, or what is wrong with it.
//!
//! - a ranking: `messages` (or `prompt`), `candidates`, `ranks` (0 = best, equal = tie);
//! - a pair as TRL has it: `chosen` and `rejected`, with `prompt` or with the prompt inside, as texts or as messages;
//! - a pair as HH-RLHF has it: `chosen` and `rejected` transcripts of "\n\nHuman: ..." and "\n\nAssistant: ..." turns;
//! - a demonstration: `messages` that end with the ideal answer.

use hone_domain::{Conversation, Message, Ranking, Role};
use serde_json::{Map, Value};

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    /// A prompt with ranked answers.
    Ranking { messages: Vec<Message>, candidates: Vec<String>, ranking: Ranking },
    /// A prompt with its ideal answer.
    Demonstration { messages: Vec<Message>, ideal: String },
}

type Wrong = String;

/// Reads one line's object; `labeler` is whoever the line names.
pub(super) fn parse(line: &Map<String, Value>) -> Result<(Row, Option<String>), Wrong> {
    let has = |key: &str| line.get(key).is_some_and(|v| !v.is_null());
    let row = if line.contains_key("candidates") {
        ranked(line)?
    } else if has("chosen") && has("rejected") {
        pair(line)?
    } else if has("messages") {
        demonstration(&line["messages"])?
    } else {
        let keys: Vec<&str> = line.keys().map(String::as_str).collect();
        return Err(format!(
            "the fields {} make none of the known shapes: messages + candidates + ranks, chosen + rejected, or messages \
             that end with the ideal answer",
            keys.join(", ")
        ));
    };
    let labeler = match line.get("labeler") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if (1..=100).contains(&name.trim().chars().count()) => Some(name.trim().to_owned()),
        Some(_) => return Err("labeler must be a name of 1 to 100 characters".into()),
    };
    Ok((row, labeler))
}

fn ranked(line: &Map<String, Value>) -> Result<Row, Wrong> {
    let prompt = line.get("messages").or_else(|| line.get("prompt"));
    let messages = prompt_of(prompt.ok_or("candidates need messages (or a prompt) that they answer")?)?;
    let candidates = line["candidates"].as_array().ok_or("candidates must be a list of texts")?;
    let candidates: Vec<String> = candidates.iter().map(|c| answer_of(c, "candidates")).collect::<Result<_, _>>()?;
    let ranks = match line.get("ranks") {
        None | Some(Value::Null) => {
            return Err("there are no ranks: this line can't teach anything, leave it out or use --skip-bad".into());
        }
        Some(ranks) => serde_json::from_value::<Vec<u32>>(ranks.clone())
            .map_err(|_| "ranks must be a list of whole numbers, 0 = best, one for each candidate".to_owned())?,
    };
    if ranks.len() != candidates.len() {
        return Err(format!("{} candidates but {} ranks: each candidate needs one", candidates.len(), ranks.len()));
    }
    ranking(messages, candidates, &ranks)
}

/// The order of the candidates carries the ranking in many sets (the best one first): they are put in the order of their text.
fn ranking(messages: Vec<Message>, candidates: Vec<String>, ranks: &[u32]) -> Result<Row, Wrong> {
    let mut pairs: Vec<(String, u32)> = candidates.into_iter().zip(ranks.iter().copied()).collect();
    pairs.sort();
    let (candidates, ranks): (Vec<String>, Vec<u32>) = pairs.into_iter().unzip();
    let ranking = Ranking::from_ranks(&ranks).map_err(|e| e.to_string())?;
    Ok(Row::Ranking { messages, candidates, ranking })
}

fn pair(line: &Map<String, Value>) -> Result<Row, Wrong> {
    let (chosen, rejected) = (&line["chosen"], &line["rejected"]);
    if let Some(prompt) = line.get("prompt").filter(|p| !p.is_null()) {
        let messages = prompt_of(prompt)?;
        let candidates = vec![answer_of(chosen, "chosen")?, answer_of(rejected, "rejected")?];
        return ranking(messages, candidates, &[0, 1]);
    }
    let (messages, chosen) = parted(dialogue_of(chosen, "chosen")?, "chosen")?;
    let (other, rejected) = parted(dialogue_of(rejected, "rejected")?, "rejected")?;
    if messages != other {
        return Err("chosen and rejected answer different prompts: all but their last messages must be the same".into());
    }
    ranking(prompt_checked(messages)?, vec![chosen, rejected], &[0, 1])
}

fn demonstration(messages: &Value) -> Result<Row, Wrong> {
    let (messages, ideal) = parted(messages_of(messages, "messages")?, "messages")?;
    Ok(Row::Demonstration { messages: prompt_checked(messages)?, ideal })
}

/// A dialogue as messages or as an HH transcript.
fn dialogue_of(value: &Value, what: &str) -> Result<Vec<Message>, Wrong> {
    match value {
        Value::String(text) => transcript(text).ok_or_else(|| {
            format!("{what} is a text without a prompt: add a prompt, or write a transcript of \"\\n\\nHuman: ...\" and \"\\n\\nAssistant: ...\" turns")
        }),
        other => messages_of(other, what),
    }
}

/// Turns of an HH transcript; none when the text isn't one.
fn transcript(text: &str) -> Option<Vec<Message>> {
    let mut rest = text.strip_prefix("\n\nHuman:").or_else(|| text.strip_prefix("Human:"))?;
    let mut messages = Vec::new();
    let mut role = Role::User;
    loop {
        let next = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
        let found = next.iter().filter_map(|(mark, role)| Some((rest.find(mark)?, *mark, *role))).min_by_key(|f| f.0);
        let (turn, after) = match found {
            Some((at, mark, next_role)) => (&rest[..at], Some((&rest[at + mark.len()..], next_role))),
            None => (rest, None),
        };
        messages.push(Message::new(role, turn.trim()));
        match after {
            Some((text, next_role)) => (rest, role) = (text, next_role),
            None => return Some(messages),
        }
    }
}

/// Everything but the last message, and the last message, which has to be an answer.
fn parted(mut messages: Vec<Message>, what: &str) -> Result<(Vec<Message>, String), Wrong> {
    match messages.pop() {
        Some(answer) if !answer.is_text() => {
            Err(format!("{what} ends with a call of a function: only texts can be learned from"))
        }
        Some(Message { role: Role::Assistant, content, .. }) => Ok((messages, filled(content, what)?)),
        Some(other) => Err(format!(
            "{what} ends with role \"{}\": it has to end with the answer, role \"assistant\"",
            other.role.as_str()
        )),
        None => Err(format!("{what} is empty")),
    }
}

/// A prompt as text or as messages.
fn prompt_of(value: &Value) -> Result<Vec<Message>, Wrong> {
    match value {
        Value::String(text) => match transcript(text) {
            // HH sets also come with the prompt taken off, which then ends with an empty assistant's turn.
            Some(mut turns) => {
                if turns.last().is_some_and(|m| m.role == Role::Assistant && m.content.is_empty()) {
                    turns.pop();
                }
                prompt_checked(turns)
            }
            None => prompt_checked(vec![Message::user(text.clone())]),
        },
        other => prompt_checked(messages_of(other, "prompt")?),
    }
}

fn messages_of(value: &Value, what: &str) -> Result<Vec<Message>, Wrong> {
    serde_json::from_value(value.clone()).map_err(|e| {
        format!("{what} must be a list of {{\"role\", \"content\"}} with roles system, user and assistant: {e}")
    })
}

fn prompt_checked(messages: Vec<Message>) -> Result<Vec<Message>, Wrong> {
    Conversation::parse(messages).map(Conversation::into_messages).map_err(|e| e.to_string())
}

/// An answer as text, or as a list of one assistant's message.
fn answer_of(value: &Value, what: &str) -> Result<String, Wrong> {
    match value {
        Value::String(text) => filled(text.clone(), what),
        Value::Array(_) => match parted(messages_of(value, what)?, what)? {
            (before, answer) if before.is_empty() => Ok(answer),
            _ => Err(format!("{what} holds more than the answer: leave the prompt to `prompt`")),
        },
        _ => Err(format!("{what} must be texts")),
    }
}

fn filled(text: String, what: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() { Err(format!("{what} has an empty answer")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(line: Value) -> Result<Row, Wrong> {
        parse(line.as_object().expect("an object")).map(|(row, _)| row)
    }

    fn ranks_of(line: Value) -> (usize, Vec<(String, u8)>) {
        match row(line).expect("a ranking") {
            Row::Ranking { messages, candidates, ranking } => {
                (messages.len(), candidates.into_iter().zip(ranking.ranks().iter().copied()).collect())
            }
            Row::Demonstration { .. } => panic!("not a ranking"),
        }
    }

    #[test]
    fn rankings_keep_their_ties_and_lose_their_order() {
        let user = json!([{"role": "user", "content": "hi"}]);
        let (n, ranks) = ranks_of(json!({"messages": user, "candidates": ["c", "b", "a"], "ranks": [0, 4, 4]}));
        assert_eq!((n, ranks), (1, vec![("a".into(), 1), ("b".into(), 1), ("c".into(), 0)]));
        let by_prompt = ranks_of(json!({"prompt": "hi", "candidates": ["c", "b"], "ranks": [1, 0]}));
        assert_eq!(by_prompt, (1, vec![("b".into(), 0), ("c".into(), 1)]));
    }

    #[test]
    fn pairs_of_trl_and_of_hh_are_the_same() {
        let wanted = (1, vec![("no".to_owned(), 1), ("yes".to_owned(), 0)]);
        let said = |text: &str| json!([{"role": "assistant", "content": text}]);
        let asked = json!([{"role": "user", "content": "is it?"}]);
        let whole = |text: &str| json!([{"role": "user", "content": "is it?"}, {"role": "assistant", "content": text}]);
        for line in [
            json!({"prompt": "is it?", "chosen": "yes", "rejected": "no"}),
            json!({"prompt": asked, "chosen": said("yes"), "rejected": said("no")}),
            json!({"chosen": whole("yes"), "rejected": whole("no")}),
            json!({"chosen": "\n\nHuman: is it?\n\nAssistant: yes", "rejected": "\n\nHuman: is it?\n\nAssistant: no"}),
            json!({"prompt": "\n\nHuman: is it?\n\nAssistant:", "chosen": "yes", "rejected": "no"}),
        ] {
            assert_eq!(ranks_of(line.clone()), wanted, "{line}");
        }
    }

    #[test]
    fn transcripts_keep_their_turns() {
        let turns = transcript("\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: e").expect("a transcript");
        let texts: Vec<_> = turns.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(texts, [("user", "a\n\nb"), ("assistant", "c"), ("user", "d"), ("assistant", "e")]);
    }

    #[test]
    fn a_demonstration_ends_with_its_answer() {
        let line = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
        let wanted = Row::Demonstration { messages: vec![Message::user("q")], ideal: "a".into() };
        assert_eq!(row(line), Ok(wanted));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let user = json!([{"role": "user", "content": "hi"}]);
        let cases = [
            (json!({"messages": user, "candidates": ["a"], "ranks": [0]}), "2 to 9"),
            (json!({"messages": user, "candidates": vec!["a"; 10], "ranks": vec![0; 10]}), "2 to 9"),
            (json!({"messages": user, "candidates": ["a", "b"], "ranks": null}), "no ranks"),
            (json!({"messages": user, "candidates": ["a", "b"]}), "no ranks"),
            (json!({"messages": user, "candidates": ["a", "b"], "ranks": [0]}), "2 candidates but 1 ranks"),
            (json!({"messages": user, "candidates": ["a", "b"], "ranks": [0, -1]}), "whole numbers"),
            (json!({"messages": user, "candidates": ["a", " "], "ranks": [0, 1]}), "empty answer"),
            (json!({"messages": user}), "ends with role \"user\""),
            (json!({"messages": [{"role": "wizard", "content": "hi"}]}), "wizard"),
            (json!({"chosen": "yes", "rejected": "no"}), "without a prompt"),
            (json!({"prompt": "q", "chosen": "", "rejected": "no"}), "empty answer"),
            (
                json!({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}),
                "different prompts",
            ),
            (json!({"prompt": "", "chosen": "a", "rejected": "b"}), "empty"),
            (json!({"text": "a"}), "none of the known shapes"),
            (json!({"prompt": "q", "chosen": "a", "rejected": "b", "labeler": 7}), "labeler"),
        ];
        for (line, wanted) in cases {
            let said = row(line.clone()).expect_err("refused");
            assert!(said.contains(wanted), "{line}: {said}");
        }
    }
}
