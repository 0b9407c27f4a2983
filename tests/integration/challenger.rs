//! A challenger gets its share of the traffic, blind and to the end of a conversation, and gives it back.

use crate::support::{Setup, TestApp};
use hone::store::challenger::{self, Challenge, Traffic};
use hone::store::users::Role;
use hone_domain::ids::PolicyId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CHAMPION: &str = "base_echo";
const CHALLENGER: &str = "pol_new";

struct House {
    app: TestApp,
    user: String,
    operator: String,
}

impl House {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let app = TestApp::with(setup).await;
        app.policy(CHALLENGER, "echo", "new");
        let (user, operator) = (app.person("ann", Role::User), app.person("olga", Role::Operator));
        Self { app, user, operator }
    }

    async fn challenge(&self, traffic: Value) -> crate::support::Answer {
        let mut body = traffic;
        body["policy"] = json!(CHALLENGER);
        let request = self.app.request(Method::PUT, "/v1/policies/challenger", &self.operator).json(&body);
        crate::support::Answer::of(request.send().await.expect("an answer")).await
    }

    async fn end(&self) -> u16 {
        let request = self.app.request(Method::DELETE, "/v1/policies/challenger", &self.operator);
        request.send().await.expect("an answer").status().as_u16()
    }

    /// Who answers these messages.
    async fn answered_by(&self, messages: Value, model: Option<&str>) -> String {
        let ask = json!({"messages": messages, "model": model});
        let answer = self.app.post("/v1/chat/completions", &self.user, ask).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["x-hone-policy"], answer.body["system_fingerprint"].as_str().expect("a policy"));
        answer.body["system_fingerprint"].as_str().expect("a policy").to_owned()
    }

    async fn models(&self) -> Vec<String> {
        let models = self.app.get("/v1/models", &self.user).await;
        let ids = models.body["data"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_str());
        ids.map(str::to_owned).collect()
    }
}

fn first(i: usize) -> Value {
    json!([{"role": "user", "content": format!("question {i}")}])
}

#[actix_web::test]
async fn a_canary_keeps_its_conversations() {
    let house = House::start().await;
    assert_eq!(house.challenge(json!({"canary_share": 0.5})).await.status, 200);
    let mut taken = 0;
    for i in 0..40 {
        let by = house.answered_by(first(i), None).await;
        let mut messages = first(i);
        let later = [json!({"role": "assistant", "content": "so"}), json!({"role": "user", "content": "and then?"})];
        messages.as_array_mut().expect("a list").extend(later);
        assert_eq!(house.answered_by(messages, Some("champion")).await, by, "sticky");
        taken += usize::from(by == CHALLENGER);
    }
    assert!((8..=32).contains(&taken), "{taken} of 40");
    assert_eq!(house.models().await, ["champion", CHAMPION, "challenger", CHALLENGER]);
    assert_eq!(house.answered_by(first(0), Some("challenger")).await, CHALLENGER);
    assert_eq!(house.answered_by(first(0), Some(CHAMPION)).await, CHAMPION);
    assert_eq!(house.end().await, 204);
    for i in 0..40 {
        assert_eq!(house.answered_by(first(i), None).await, CHAMPION);
    }
    assert_eq!(house.end().await, 409);
    assert_eq!(house.models().await, ["champion", CHAMPION]);
}

#[actix_web::test]
async fn comparisons_draw_from_both_and_the_duel_is_counted() {
    let house = House::start().await;
    house.challenge(json!({})).await;
    let mut places = std::collections::BTreeSet::new();
    for i in 0..12 {
        let ask = json!({"messages": first(i), "k": 4});
        let made = house.app.post("/v1/comparisons", &house.user, ask).await.body;
        let ids: Vec<&str> =
            made["candidates"].as_array().expect("four").iter().filter_map(|c| c["id"].as_str()).collect();
        assert!(made["candidates"].as_array().expect("four").iter().all(|c| c["policy"].is_null()), "blind");
        let ranking = json!({"ranking": [[ids[0]], [ids[1]], [ids[2], ids[3]]]});
        let path = format!("/v1/comparisons/{}/ranking", made["id"].as_str().expect("an id"));
        let ranked = house.app.post(&path, &house.user, ranking).await;
        assert_eq!(ranked.status, 200, "{ranked:?}");
        let shown = house.app.get(path.trim_end_matches("/ranking"), &house.user).await.body;
        let by: Vec<bool> =
            shown["candidates"].as_array().expect("four").iter().map(|c| c["policy"] == CHALLENGER).collect();
        assert_eq!(by.iter().filter(|challenger| **challenger).count(), 2, "half and half");
        places.insert(by);
    }
    assert!(places.len() > 2, "in random order: {places:?}");
    let listed = house.app.get("/v1/policies", &house.operator).await.body;
    assert_eq!((&listed["challenger"], &listed["challenged_by"]), (&json!(CHALLENGER), &json!("olga")));
    let duel = &listed["duel"];
    let count = |what: &str| duel[what].as_u64().expect("a count");
    assert_eq!(count("wins") + count("losses") + count("ties"), 12 * 4, "{duel}");
    house.challenge(json!({"in_comparisons": false})).await;
    let made = house.app.post("/v1/comparisons", &house.user, json!({"messages": first(99), "k": 2})).await.body;
    let id = made["candidates"][0]["id"].as_str().expect("an id").to_owned();
    let by: String = house
        .app
        .write(move |c| Ok(c.query_row("select policy_id from completions where id = ?1", [id], |r| r.get(0))?));
    assert_eq!(by, CHAMPION);
}

#[actix_web::test]
async fn a_shadow_is_kept_for_operators_and_shown_to_nobody() {
    let house = House::start().await;
    house.challenge(json!({"shadow_share": 1})).await;
    assert_eq!(house.answered_by(first(1), None).await, CHAMPION);
    let path = format!("/v1/policies/{CHALLENGER}/shadows");
    let since = Instant::now();
    let shadow = loop {
        let list = house.app.get(&path, &house.operator).await.body;
        if let Some(shadow) = list["shadows"].get(0) {
            break shadow.clone();
        }
        assert!(since.elapsed() < Duration::from_secs(10), "the challenger answers too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&shadow["shown"], &shadow["shadow"]), (&json!("question 1"), &json!("question 1")));
    assert_eq!(shadow["shown_policy"], CHAMPION);
    assert_eq!(house.app.get("/v1/stats", &house.operator).await.body["completions"], 1);
    assert_eq!(house.app.get(&path, &house.user).await.status, 403);
    // Whoever leaves takes the shadows with them.
    let erase = house.app.request(Method::DELETE, "/v1/me/data", &house.user).send().await.expect("an answer");
    assert!(erase.status().is_success());
    assert_eq!(house.app.get(&path, &house.operator).await.body["shadows"], json!([]));
}

#[actix_web::test]
async fn what_the_command_line_decides_is_followed_and_nonsense_is_refused() {
    let house = House::start().await;
    assert_eq!(house.challenge(json!({"canary_share": 2})).await.error(), (400, "invalid_value", Some("canary_share")));
    let refused = |body: Value, key: String| {
        let request = house.app.request(Method::PUT, "/v1/policies/challenger", &key).json(&body);
        async move { request.send().await.expect("an answer").status().as_u16() }
    };
    assert_eq!(refused(json!({"policy": "pol_none"}), house.operator.clone()).await, 404);
    assert_eq!(refused(json!({"policy": CHAMPION}), house.operator.clone()).await, 409);
    assert_eq!(refused(json!({"policy": CHALLENGER}), house.user.clone()).await, 403);
    let challenge = Challenge { policy_id: PolicyId::from_raw(CHALLENGER), traffic: Traffic::default(), trial: None };
    house.app.write(move |c| challenger::set(c, &challenge, "command line"));
    let since = Instant::now();
    while !house.models().await.iter().any(|id| id == "challenger") {
        assert!(since.elapsed() < Duration::from_secs(10), "a running server follows");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Who wins is no challenger any more.
    let promoted = house.app.post(&format!("/v1/policies/{CHALLENGER}/promote"), &house.operator, json!({})).await;
    assert_eq!(promoted.status, 200);
    assert_eq!(house.app.get("/v1/policies", &house.operator).await.body["challenger"], Value::Null);
    assert_eq!(house.models().await, ["champion", CHALLENGER, CHAMPION]);
}

impl House {
    /// Asks for two answers, one of each policy, and ranks that of `preferred` first.
    async fn prefer(&self, preferred: &'static str, i: usize) {
        let made = self.app.post("/v1/comparisons", &self.user, json!({"messages": first(i), "k": 2})).await.body;
        let ids: Vec<String> = made["candidates"]
            .as_array()
            .expect("two")
            .iter()
            .map(|c| c["id"].as_str().expect("an id").to_owned())
            .collect();
        let asked = ids.clone();
        let by: Vec<String> = self.app.write(move |c| {
            let of =
                |id: &String| Ok(c.query_row("select policy_id from completions where id = ?1", [id], |r| r.get(0))?);
            asked.iter().map(of).collect()
        });
        let best = usize::from(by[0] != preferred);
        let ranking = json!({"ranking": [[ids[best]], [ids[1 - best]]]});
        let path = format!("/v1/comparisons/{}/ranking", made["id"].as_str().expect("an id"));
        assert_eq!(self.app.post(&path, &self.user, ranking).await.status, 200);
    }

    async fn policies(&self) -> Value {
        self.app.get("/v1/policies", &self.operator).await.body
    }

    /// The list of policies once its trial is over.
    async fn after_the_trial(&self) -> Value {
        let since = Instant::now();
        loop {
            let listed = self.policies().await;
            if listed["challenger"].is_null() {
                return listed;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "the scheduler carries it out: {}", listed["trial"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn challenger_of(listed: &Value) -> &Value {
    listed["policies"].as_array().expect("a list").iter().find(|p| p["id"] == CHALLENGER).expect("listed")
}

#[actix_web::test]
async fn people_promote_a_challenger_on_trial() {
    let house = House::start().await;
    assert_eq!(house.challenge(json!({"trial": {"alpha": 2}})).await.error(), (400, "invalid_value", Some("trial")));
    assert_eq!(house.challenge(json!({"trial": {"comparisons_min": 7}})).await.status, 200);
    for i in 0..6 {
        house.prefer(CHALLENGER, i).await;
    }
    let trial = house.policies().await["trial"].clone();
    assert_eq!(
        (&trial["score"]["wins"], &trial["verdict"], &trial["ending"]),
        (&json!(6), &json!("open"), &Value::Null),
        "{trial}"
    );
    assert_eq!(house.challenge(json!({"canary_share": 0.1})).await.status, 200);
    assert_eq!(house.policies().await["trial"], trial, "another share is no other trial");
    house.prefer(CHALLENGER, 6).await;
    let listed = house.after_the_trial().await;
    assert_eq!(listed["champion"], CHALLENGER);
    let policy = challenger_of(&listed);
    assert_eq!((&policy["state"], &policy["trial"]["ending"]), (&json!("champion"), &json!("promoted")));
    assert_eq!(house.answered_by(first(50), None).await, CHALLENGER);
    let page = house.app.get(&format!("/v1/policies/{CHALLENGER}/report"), &house.operator).await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.body.as_str().is_some_and(|text| text.contains("prefer the challenger in 7 comparisons")), "{page:?}");
    assert_eq!(house.app.get(&format!("/v1/policies/{CHALLENGER}/report"), &house.user).await.status, 403);
    let audit = house.app.get("/v1/audit?action=trial.end", &house.operator).await.body;
    assert_eq!(audit["entries"].as_array().or(audit["items"].as_array()).map(Vec::len), Some(1), "{audit}");
}

#[actix_web::test]
async fn people_reject_a_challenger_on_trial_unless_the_loop_is_frozen() {
    let house = House::start().await;
    let freeze = |method: Method| house.app.request(method, "/v1/loop/freeze", &house.operator);
    let frozen = freeze(Method::PUT).json(&json!({"reason": "holidays"})).send().await.expect("an answer");
    assert_eq!(frozen.status().as_u16(), 200);
    house.challenge(json!({"trial": {"comparisons_min": 7}})).await;
    for i in 0..8 {
        house.prefer(CHAMPION, i).await;
    }
    let job = house.app.post("/v1/jobs", &house.operator, json!({"kind": "reward"})).await.body;
    let job = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let listed = house.policies().await;
    assert_eq!(
        (&listed["challenger"], &listed["trial"]["ending"]),
        (&json!(CHALLENGER), &json!("rolled_back")),
        "decided, but frozen"
    );
    assert_eq!(house.app.get(&job, &house.operator).await.body["state"], "queued", "nothing begins");
    let said = house.app.get("/v1/loop/freeze", &house.operator).await.body;
    assert_eq!((&said["frozen"]["reason"], &said["frozen"]["actor"]), (&json!("holidays"), &json!("olga")));
    assert_eq!(house.app.get("/v1/loop", &house.operator).await.body["frozen"], said["frozen"]);
    let again = freeze(Method::PUT).json(&json!({"reason": "another"})).send().await.expect("an answer");
    let again = crate::support::Answer::of(again).await;
    assert_eq!((again.status, &again.body["frozen"]["reason"]), (200, &json!("holidays")), "the first reason stays");

    assert_eq!(freeze(Method::DELETE).send().await.expect("an answer").status().as_u16(), 204);
    assert_eq!(freeze(Method::DELETE).send().await.expect("an answer").status().as_u16(), 409);
    let noted = house.app.get("/v1/audit?action=loop", &house.operator).await.body["entries"].clone();
    let noted: Vec<_> =
        noted.as_array().expect("a list").iter().map(|e| (&e["actor"], &e["action"], &e["detail"])).collect();
    let (olga, freeze, thaw) = (json!("olga"), json!("loop.freeze"), json!("loop.thaw"));
    assert_eq!(noted, [(&olga, &thaw, &json!({})), (&olga, &freeze, &json!({"reason": "holidays"}))]);
    let listed = house.after_the_trial().await;
    assert_eq!((&listed["champion"], &challenger_of(&listed)["state"]), (&json!(CHAMPION), &json!("rejected")));
    let refused = house.app.post(&format!("/v1/policies/{CHALLENGER}/promote"), &house.operator, json!({})).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body["error"]["message"].as_str().is_some_and(|m| m.contains("people rejected")), "{refused:?}");
    let since = Instant::now();
    while house.app.get(&job, &house.operator).await.body["state"] == "queued" {
        assert!(since.elapsed() < Duration::from_secs(10), "the job begins");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn a_champion_that_people_stop_preferring_starts_a_cycle() {
    let mut setup = Setup::default();
    setup.config.retrain.drift.share = 1.0;
    let house = House::with(setup).await;
    let promoted = house.app.post(&format!("/v1/policies/{CHALLENGER}/promote"), &house.operator, json!({})).await;
    assert_eq!(promoted.status, 200);
    let since = Instant::now();
    while house.policies().await["challenger"] != CHAMPION {
        assert!(since.elapsed() < Duration::from_secs(10), "the predecessor goes on answering in comparisons");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for i in 0..10 {
        assert_eq!(house.answered_by(first(i), None).await, CHALLENGER, "and only there");
        house.prefer(CHALLENGER, i).await;
    }
    assert_eq!(house.app.get("/v1/jobs", &house.operator).await.body["jobs"], json!([]), "people prefer the champion");
    for i in 10..40 {
        house.prefer(CHAMPION, i).await;
    }
    let since = Instant::now();
    let cycle = loop {
        let jobs = house.app.get("/v1/jobs", &house.operator).await.body;
        if let Some(cycle) = jobs["jobs"].get(0) {
            break cycle.clone();
        }
        assert!(since.elapsed() < Duration::from_secs(10), "people have changed their mind: {jobs}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&cycle["kind"], &cycle["reason"]), (&json!("cycle"), &json!("drift")));
}
