//! Which traffic is the challenger's: a policy beside the champion that a share of the conversations gets, without being told.
//! May use: domain, and what the store says of the challenge.

use crate::store::challenger::Traffic;
use hone_domain::ids::{PolicyId, UserId};
use hone_domain::{Conversation, Role};
use sha2::{Digest, Sha256};

/// Whether a conversation is the challenger's. It stays so to its end, as all of its turns begin alike, and after a restart; for another
/// challenger the dice are thrown anew.
#[must_use]
pub fn canary_takes(traffic: &Traffic, challenger: &PolicyId, person: &UserId, conversation: &Conversation) -> bool {
    unit_interval(challenger, person, conversation) < traffic.canary_share
}

/// A number in [0, 1) of who asks and how the conversation begins: its messages up to the person's first one.
fn unit_interval(challenger: &PolicyId, person: &UserId, conversation: &Conversation) -> f64 {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(challenger.as_str());
    add(person.as_str());
    for message in conversation.messages() {
        add(message.role.as_str());
        add(&message.content);
        if message.role == Role::User {
            break;
        }
    }
    let digest = hash.finalize();
    let first = digest.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    (first >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::Message;

    fn takes(share: f64, challenger: &str, person: &str, messages: Vec<Message>) -> bool {
        let traffic = Traffic { canary_share: share, ..Traffic::default() };
        let conversation = Conversation::parse(messages).expect("answerable");
        canary_takes(&traffic, &PolicyId::from_raw(challenger), &UserId::from_raw(person), &conversation)
    }

    #[test]
    fn a_share_of_conversations_is_taken_and_stays_taken() {
        let first = |i: usize| vec![Message::system("Be kind."), Message::user(format!("question {i}"))];
        let taken: Vec<bool> = (0..2000).map(|i| takes(0.25, "pol_a", "ann", first(i))).collect();
        let share = taken.iter().filter(|taken| **taken).count() as f64 / 2000.0;
        // Standard error 0.0097: five of them.
        assert!((share - 0.25).abs() < 0.049, "{share}");
        for (i, taken) in taken.iter().enumerate().take(50) {
            let mut later = first(i);
            later.extend([Message::assistant("so"), Message::user("and then?")]);
            assert_eq!(takes(0.25, "pol_a", "ann", later), *taken, "sticky");
        }
        let other = |challenger: &str, person: &str| {
            (0..200).filter(|&i| takes(0.25, challenger, person, first(i)) != taken[i]).count()
        };
        assert!(other("pol_b", "ann") > 20 && other("pol_a", "bob") > 20, "anew for each challenger and person");
        assert!((0..50).all(|i| takes(1.0, "a", "b", first(i)) && !takes(0.0, "a", "b", first(i))));
    }
}
