//! The data room: what operators see of the feedback, leave out of training, put back, and carry in and out.

use crate::support::{Answer, Setup, TestApp};
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

struct Room {
    app: TestApp,
    ann: String,
    olga: String,
}

impl Room {
    /// A chat, a ranked comparison and a demonstration.
    async fn start() -> Self {
        let app = TestApp::start().await;
        let (ann, lea, olga) =
            (app.person("ann", Role::User), app.person("lea", Role::Labeler), app.person("olga", Role::Operator));
        let ask = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
        assert_eq!(app.post("/v1/chat/completions", &ann, ask("Chatted about Zürich")).await.status, 200);
        let made = app.post("/v1/comparisons", &ann, ask("compared")).await.body;
        let ids: Vec<&Value> = made["candidates"].as_array().expect("four").iter().map(|c| &c["id"]).collect();
        let ranking = json!({"ranking": [[ids[0]], [ids[1], ids[2]], [ids[3]]]});
        let path = format!("/v1/comparisons/{}/ranking", made["id"].as_str().expect("an id"));
        assert_eq!(app.post(&path, &ann, ranking).await.status, 200);
        let mut demonstration = ask("shown");
        demonstration["ideal"] = json!("like so");
        assert_eq!(app.post("/v1/demonstrations", &lea, demonstration).await.status, 201);
        Self { app, ann, olga }
    }

    async fn prompts(&self, query: &str) -> Answer {
        self.app.get(&format!("/v1/prompts{query}"), &self.olga).await
    }

    async fn sources(&self, query: &str) -> Vec<String> {
        let list = self.prompts(query).await.body;
        let items = list["prompts"].as_array().expect("a list");
        items.iter().map(|item| item["source"].as_str().expect("a source").to_owned()).collect()
    }

    async fn change(&self, path: &str, ids: Value) -> Answer {
        self.app.post(path, &self.olga, json!({"ids": ids, "reason": "spam"})).await
    }

    /// Rankings, demonstrations and prompts of a snapshot taken now.
    fn learned(&self) -> (usize, usize, usize) {
        let data = self.app.snapshot();
        (
            data.rankings.len() + data.held_out_rankings.len(),
            data.demonstrations.len() + data.held_out_demonstrations.len(),
            data.prompts.len() + data.held_out_prompts.len(),
        )
    }
}

#[actix_web::test]
async fn everything_that_is_learned_from_is_found() {
    let room = Room::start().await;
    assert_eq!(room.sources("").await, ["demonstration", "comparison", "chat"]);
    assert_eq!(room.sources("?q=zÜRICH").await, Vec::<String>::new(), "in any case of ASCII letters only");
    assert_eq!(room.sources("?q=CHATTED+about+Z").await, ["chat"]);
    assert_eq!(room.sources("?q=like+so").await, ["demonstration"]);
    assert_eq!(room.sources("?q=content").await, Vec::<String>::new(), "words, not the JSON");
    assert_eq!(room.sources("?source=comparison").await, ["comparison"]);
    assert_eq!(room.sources("?person=ann").await, ["comparison", "chat"]);
    assert_eq!(room.sources("?person=lea").await, ["demonstration"]);
    let page = room.prompts("?limit=1&offset=1").await.body;
    let item = &page["prompts"][0];
    assert_eq!((&page["total"], &item["ranked"], &item["answers"]), (&json!(3), &json!(true), &json!(4)));
    assert_eq!((&item["sender"]["name"], &item["labeler"]["name"]), (&json!("ann"), &json!("ann")));
    assert_eq!(room.prompts("?source=dance").await.error().0, 400);
    assert_eq!(room.app.get("/v1/prompts", &room.ann).await.error().0, 403);
}

#[actix_web::test]
async fn what_is_excluded_enters_no_snapshot_until_it_is_restored() {
    let room = Room::start().await;
    assert_eq!(room.learned(), (1, 1, 3));
    let list = room.prompts("").await.body;
    let id = |i: usize| list["prompts"][i]["id"].clone();
    for (i, left) in [(0, (1, 0, 2)), (1, (0, 1, 2)), (2, (1, 1, 2))] {
        assert_eq!(room.change("/v1/exclusions", json!([id(i)])).await.body["changed"], 1);
        assert_eq!(room.learned(), left, "{}", list["prompts"][i]);
        let excluded = room.prompts("?excluded=true").await.body;
        assert_eq!((&excluded["total"], &excluded["prompts"][0]["id"]), (&json!(1), &id(i)));
        assert_eq!(excluded["prompts"][0]["excluded"]["reason"], "spam");
        assert_eq!(excluded["prompts"][0]["excluded"]["by"], "olga");
        assert_eq!(room.prompts("?excluded=false").await.body["total"], 2);
        assert_eq!(room.change("/v1/exclusions/restore", json!([id(i)])).await.body["changed"], 1);
        assert_eq!(room.learned(), (1, 1, 3));
    }
    let ann = &list["prompts"][1]["sender"]["id"];
    assert_eq!(room.change("/v1/exclusions", json!([ann])).await.body["changed"], 1);
    assert_eq!(room.learned(), (0, 1, 1), "a person with all that is theirs");
    assert_eq!(room.prompts("?excluded=true").await.body["total"], 2);
    let lines = room.app.get("/v1/data/export", &room.olga).await.body;
    assert!(!lines.to_string().contains("compared"), "an export holds what is learned from: {lines}");

    let refused = room.app.post("/v1/exclusions", &room.olga, json!({"ids": [id(0)], "reason": " "})).await;
    assert_eq!(refused.error(), (422, "unprocessable", Some("reason")));
    assert_eq!(room.change("/v1/exclusions", json!([id(0), "cmp_none"])).await.error().0, 404);
    assert_eq!(room.learned(), (0, 1, 1), "all or nothing");
    assert_eq!(room.app.post("/v1/exclusions", &room.ann, json!({"ids": [id(0)], "reason": "x"})).await.error().0, 403);
    let audit = room.app.get("/v1/audit?action=data&limit=100", &room.olga).await.body;
    let actions: Vec<&str> =
        audit["entries"].as_array().expect("entries").iter().filter_map(|e| e["action"].as_str()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "data.exclude").count(), 4);
    assert_eq!(actions.iter().filter(|action| **action == "data.restore").count(), 3);
}

async fn import(room: &Room, query: &str, lines: &str) -> Answer {
    let request = room.app.request(Method::POST, &format!("/v1/data/import{query}"), &room.olga);
    Answer::of(request.body(lines.to_owned()).send().await.expect("an answer")).await
}

#[actix_web::test]
async fn an_import_is_all_or_nothing_and_an_export_can_be_imported() {
    let room = Room::start().await;
    let good = r#"{"prompt": "q", "chosen": "good", "rejected": "bad", "labeler": "ada"}"#;
    let broken = import(&room, "", &format!("{good}\n\n{{\"prompt\": 3}}\n")).await;
    assert_eq!(broken.error().0, 422);
    let said = broken.body["error"]["message"].as_str().expect("a sentence");
    assert!(said.contains("nothing was imported") && said.contains("line 3:"), "{said}");
    assert_eq!(room.learned(), (1, 1, 3));
    let passed = import(&room, "?skip_bad=true", &format!("{good}\n\n{{\"prompt\": 3}}\n")).await.body;
    assert_eq!((&passed["rankings"], &passed["skipped"][0]["line"]), (&json!(1), &json!(3)));
    assert_eq!(room.learned(), (2, 1, 4));
    assert_eq!(import(&room, "", good).await.body["duplicates"], 1);
    assert_eq!(room.sources("?source=import").await, ["import"]);

    let export = room.app.get("/v1/data/export", &room.olga).await;
    assert!(export.headers["content-disposition"].to_str().expect("text").contains("hone-feedback.jsonl"));
    let lines = export.body.as_str().expect("lines").to_owned();
    assert_eq!(lines.lines().count(), 3);
    let trl = room.app.get("/v1/data/export?format=trl&what=rankings", &room.olga).await;
    assert_eq!(trl.body.as_str().expect("lines").lines().count(), 6, "five pairs of the comparison, one of the import");
    let other = Room::start().await;
    let copied = import(&other, "", &lines).await.body;
    assert_eq!((&copied["rankings"], &copied["demonstrations"]), (&json!(2), &json!(1)));
    assert_eq!(room.app.get("/v1/data/export", &room.ann).await.error().0, 403);
}

#[actix_web::test]
async fn an_import_beyond_the_limit_is_refused() {
    let mut setup = Setup::default();
    setup.config.limits.import_bytes_max = 100;
    let app = TestApp::with(setup).await;
    let olga = app.person("olga", Role::Operator);
    let request = app.request(Method::POST, "/v1/data/import", &olga).body("x".repeat(101));
    let refused = Answer::of(request.send().await.expect("an answer")).await;
    assert_eq!(refused.error(), (413, "body_too_large", None));
    assert!(refused.body["error"]["message"].as_str().expect("text").contains("limits.import_bytes_max"));
}
