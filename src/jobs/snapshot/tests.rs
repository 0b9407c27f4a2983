//! The split of people and prompts, the caps, and the file.

use super::*;
use hone_domain::Ranking;

fn from<T>(sender: &str, vouched: bool, item: T) -> Stored<T> {
    let sender = (!sender.is_empty()).then(|| sender.to_owned());
    Stored { origin: Origin { sender, vouched }, item }
}

fn ranked(sender: &str, prompt: &str, ranks: &[u32]) -> Stored<RankedPrompt> {
    let item = RankedPrompt {
        messages: vec![Message::user(prompt)],
        candidates: ranks.iter().map(ToString::to_string).collect(),
        ranking: Ranking::from_ranks(ranks).expect("ranks"),
        quality: Vec::new(),
        flags: Vec::new(),
        labeler: sender.to_owned(),
    };
    from(sender, false, item)
}

/// Each (sender, prompt) as a ranked comparison.
fn feedback(items: &[(String, String)]) -> Feedback {
    Feedback {
        rankings: items.iter().map(|(user, prompt)| ranked(user, prompt, &[1, 0])).collect(),
        demonstrations: vec![],
        prompts: items.iter().map(|(u, p)| from(u, false, vec![Message::user(p.clone())])).collect(),
        nobody: Some(String::new()),
        too_old: 0,
    }
}

#[test]
fn old_rankings_make_room_for_new_ones() {
    assert_eq!(too_old(300, 100, 1.0), 100, "as many old as new");
    assert_eq!(too_old(300, 100, 0.5), 150);
    assert_eq!(too_old(300, 100, 0.0), 200, "new ones alone");
    assert_eq!(too_old(300, 100, 9.0), 0, "there are fewer");
    assert_eq!(too_old(300, 300, 1.0), 0, "all are new");
    assert_eq!(too_old(300, 0, 0.0), 0, "none is new");
    assert_eq!(too_old(300, 1, 0.1), 298, "a part of one is one");
}

fn keys(prompts: &[PromptItem]) -> HashSet<String> {
    prompts.iter().map(|p| prompt_key(&p.messages)).collect()
}

#[test]
fn people_are_split_and_prompts_never_straddle() {
    // 30 people with prompts of their own; everybody also asks the same two things, in different spelling.
    let mut items: Vec<_> = (0..300).map(|i| (format!("user_{}", i % 30), format!("question {i}"))).collect();
    items.extend((0..30).map(|u| (format!("user_{u}"), "Hello  THERE".into())));
    items.extend((0..30).map(|u| (format!("user_{u}"), "hello there".into())));
    let (data, counts) = build(feedback(&items));
    assert_eq!(counts.split_by, SplitBy::User);
    assert_eq!(counts.users, 30);
    let people =
        |rankings: &[RankedPrompt]| -> HashSet<String> { rankings.iter().map(|r| r.labeler.clone()).collect() };
    let (trained, held_out) = (people(&data.rankings), people(&data.held_out_rankings));
    assert!(!trained.is_empty() && !held_out.is_empty());
    assert!(trained.is_disjoint(&held_out));
    assert!(keys(&data.prompts).is_disjoint(&keys(&data.held_out_prompts)));
    assert_eq!(counts.rankings + counts.held_out_rankings + counts.on_both_sides, 360);
    assert_eq!(counts.on_both_sides, 2 * held_out.len());
}

#[test]
fn one_person_is_split_by_prompt_and_turns_stay_together() {
    let items: Vec<_> = (0..100).map(|i| ("user_1".to_owned(), format!("question {i}"))).collect();
    let mut all = feedback(&items);
    for i in 0..100 {
        let turn = vec![Message::user(format!("question {i}")), Message::assistant("yes"), Message::user("more")];
        all.prompts.push(from("user_1", false, turn));
    }
    let (data, counts) = build(all);
    assert_eq!(counts.split_by, SplitBy::Prompt);
    assert_eq!((counts.prompts + counts.held_out_prompts, counts.on_both_sides), (200, 0));
    assert!((10..=32).contains(&counts.held_out_rankings), "about a fifth: {counts:?}");
    assert!(keys(&data.prompts).is_disjoint(&keys(&data.held_out_prompts)));
}

#[test]
fn imports_without_a_name_are_split_by_prompt_beside_people() {
    let mut items: Vec<_> = (0..300).map(|i| (format!("user_{}", i % 30), format!("question {i}"))).collect();
    items.extend((0..200).map(|i| (String::new(), format!("imported {i}"))));
    let mut all = feedback(&items);
    all.prompts.iter_mut().for_each(|p| p.origin.vouched = true);
    all.rankings.iter_mut().for_each(|p| p.origin.vouched = true);
    let (data, counts) = build(all);
    assert_eq!(counts.split_by, SplitBy::User);
    let imported = |r: &[RankedPrompt]| r.iter().filter(|r| r.labeler.is_empty()).count();
    assert!(imported(&data.rankings) > 120 && imported(&data.held_out_rankings) > 15, "{counts:?}");
}

#[test]
fn one_person_gives_at_most_200_prompts_the_newest() {
    let items: Vec<_> = (0..250).map(|i| ("user_1".to_owned(), format!("question {i}"))).collect();
    let (data, counts) = build(feedback(&items));
    assert_eq!(counts.over_the_cap, 50);
    assert_eq!(counts.prompts + counts.held_out_prompts, 200);
    assert!(!keys(&data.prompts).contains("question 49"));
    let mut vouched = feedback(&items);
    vouched.rankings.iter_mut().for_each(|r| r.origin.vouched = true);
    vouched.prompts.iter_mut().for_each(|r| r.origin.vouched = true);
    assert_eq!(build(vouched).1.over_the_cap, 0, "a labeler has no cap");
}

#[test]
fn ties_all_over_teach_nothing() {
    let mut all = feedback(&[("user_1".into(), "a".into())]);
    all.rankings = vec![ranked("user_1", "a", &[0, 0, 0]), ranked("user_1", "a", &[0, 0, 1])];
    let (data, counts) = build(all);
    assert_eq!(counts.all_tied, 1);
    assert_eq!(data.rankings.len() + data.held_out_rankings.len(), 1);
}

#[test]
fn the_same_data_is_the_same_file_and_a_changed_file_is_noticed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("opens");
    let (a, b) = (take(&store, None).expect("takes"), take(&store, None).expect("takes"));
    assert_eq!(a, b);
    assert_eq!(load(dir.path(), &a.sha256).expect("loads"), a.data);
    let path = path_of(dir.path(), &a.sha256);
    std::fs::write(&path, b"{}").expect("writes");
    let said = load(dir.path(), &a.sha256).expect_err("changed").to_string();
    assert!(said.contains("was changed"), "{said}");
}
