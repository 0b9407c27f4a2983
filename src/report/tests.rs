//! The page: everything is there, and nothing that somebody wrote becomes more than text.

use super::*;
use hone_domain::Message;
use hone_domain::ids::RunId;
use serde_json::json;

const HOSTILE: &str = "</style><script>alert(1)</script> \"'><img src=x onerror=alert(2)> \u{7}";

fn report() -> Report {
    let run = Run {
        id: RunId::from_raw("run_7"),
        kind: RunKind::Ppo,
        job_id: None,
        state: RunState::Failed,
        base_name: HOSTILE.into(),
        snapshot_sha256: "abcdef".into(),
        inputs: json!({"reference": HOSTILE}),
        config: json!({"deterministic": false, "settings": {"kl_coef": 0.1, "gamma": 1.0, "lora_targets": [HOSTILE]}}),
        seed: 42,
        artifact_dir: None,
        artifact_sha256: None,
        metrics: None,
        error: Some(HOSTILE.into()),
        created_at: "2025-01-02T03:04:05Z".into(),
        finished_at: None,
    };
    let sample = Sample {
        messages: vec![Message::user(HOSTILE)],
        before: HOSTILE.into(),
        after: " ".into(),
        reward_before: Some(-1.5),
        reward_after: None,
    };
    Report {
        run,
        defaults: json!({"kl_coef": 0.05, "gamma": 1.0}),
        figures: vec![("Wall time", HOSTILE.into())],
        curves: [("objective/kl".to_owned(), vec![(1, 0.0), (2, 3.5)])].into(),
        last: [(HOSTILE.to_owned(), 3.5)].into(),
        samples: vec![sample],
        preferences: None,
    }
}

#[test]
fn nothing_that_was_written_becomes_markup() {
    let page = page(&report());
    // The page's own elements only: each opening tag is one that this module writes.
    let own = "!doctype html head meta title style body header p h1 code time dl div dt dd h2 section h3 span i b svg path text circle \
               br table tr td footer";
    for tag in page.split('<').skip(1).filter(|tag| !tag.starts_with('/')) {
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '!').next().unwrap_or_default();
        assert!(own.split_whitespace().any(|o| o == name), "<{name}");
    }
    assert!(!page.contains("onerror=alert(2)>") && !page.contains('\u{7}'));
    assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 9, "each of the hostile texts is shown");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("), "nothing from elsewhere");
}

#[test]
fn what_a_person_looks_for_is_there() {
    let page = page(&report());
    for wanted in ["run_7", "failed", "42", "abcdef", "KL to the reference", "reward -1.5", "(an empty answer)"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(
        page.contains("<tr class=\"set\"><td>kl_coef</td>") && page.contains("<tr><td>gamma</td>"),
        "what was chosen stands out"
    );
    assert!(!page.contains("Answer length"), "no chart without points");
}
