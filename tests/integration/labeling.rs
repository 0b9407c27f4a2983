//! The labeling queue: leases, skips, undo, gold questions and repeats; what is learned from, and what only measures people.

use crate::support::{Answer, Setup, TestApp};
use hone::labeling::LabelingConfig;
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

struct Queue {
    app: TestApp,
    ann: String,
    lea: String,
    mia: String,
    olga: String,
}

impl Queue {
    /// Nothing made ahead, nothing measured, unless the test says so.
    async fn start(change: impl FnOnce(&mut LabelingConfig)) -> Self {
        let mut setup = Setup::default();
        let quiet = LabelingConfig {
            ready: 0,
            k: 3,
            gold_share: 0.0,
            repeat_share: 0.0,
            overlap_share: 0.0,
            repeat_gap: 0,
            ..LabelingConfig::default()
        };
        setup.config.labeling = quiet;
        change(&mut setup.config.labeling);
        let app = TestApp::with(setup).await;
        let (ann, lea) = (app.person("ann", Role::User), app.person("lea", Role::Labeler));
        let (mia, olga) = (app.person("mia", Role::Labeler), app.person("olga", Role::Operator));
        Self { app, ann, lea, mia, olga }
    }

    async fn chat(&self, text: &str) -> String {
        let ask = json!({"messages": [{"role": "user", "content": text}]});
        text_of(&self.app.post("/v1/chat/completions", &self.ann, ask).await.body["id"])
    }

    async fn next(&self, key: &str) -> Value {
        let answer = self.app.get("/v1/labeling/next", key).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["task"].clone()
    }

    /// Ranks the task's answers in the order shown: the first is the best.
    async fn rank(&self, key: &str, task: &Value) -> Answer {
        let tiers: Vec<Value> =
            task["candidates"].as_array().expect("answers").iter().map(|c| json!([c["id"]])).collect();
        self.send(key, task, "ranking", json!({"ranking": tiers})).await
    }

    async fn send(&self, key: &str, task: &Value, what: &str, body: Value) -> Answer {
        self.app.post(&format!("/v1/labeling/{}/{what}", text_of(&task["id"])), key, body).await
    }

    async fn progress(&self, key: &str) -> Value {
        self.app.get("/v1/labeling/progress", key).await.body
    }

    fn lease_runs_out(&self) {
        let sql = "update labeling_tasks set lease_until = '2020-01-01T00:00:00.000000Z' where state = 'leased'";
        self.app.write(move |c| Ok(c.execute(sql, [])?));
    }

    /// How many rankings and demonstrations a snapshot would hold.
    fn learned(&self) -> (usize, usize) {
        let data = self.app.snapshot();
        let rankings = data.rankings.len() + data.held_out_rankings.len();
        (rankings, data.demonstrations.len() + data.held_out_demonstrations.len())
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[actix_web::test]
async fn a_logged_prompt_is_ranked_by_a_labeler_and_learned_from() {
    let queue = Queue::start(|_| ()).await;
    let (app, lea) = (&queue.app, &queue.lea);
    assert_eq!(queue.next(lea).await, Value::Null, "nobody has said anything");
    let secret = json!({"messages": [{"role": "user", "content": "secret"}], "store": false});
    assert_eq!(app.post("/v1/chat/completions", &queue.ann, secret).await.status, 200);
    assert_eq!(queue.next(lea).await, Value::Null, "what isn't kept isn't labeled");
    queue.chat("why?").await;
    assert_eq!(app.get("/v1/labeling/next", &queue.ann).await.error().0, 403);
    assert_eq!(queue.progress(lea).await["left"], json!({"rank": 1, "demonstrate": 1}));

    let task = queue.next(lea).await;
    assert_eq!((&task["kind"], &task["messages"][0]["content"]), (&json!("rank"), &json!("why?")));
    assert_eq!(task["candidates"].as_array().map(Vec::len), Some(3));
    assert!(!task.to_string().contains("base_echo"), "blind: {task}");
    assert_eq!(queue.next(lea).await["id"], task["id"], "the same one until it is answered");
    assert_eq!(queue.next(&queue.mia).await, Value::Null, "it is lea's alone");
    assert_eq!(
        app.get("/v1/comparisons", &queue.ann).await.body["comparisons"],
        json!([]),
        "nothing of it is ann's to rank"
    );

    let wrong = json!({"ranking": [["c1"], ["c2"]]});
    assert_eq!(queue.send(lea, &task, "ranking", wrong).await.error(), (422, "unprocessable", Some("ranking")));
    assert_eq!(queue.rank(&queue.mia, &task).await.error().0, 404, "it isn't mia's");
    let ranking = json!({"ranking": [["c2"], ["c1", "c3"]], "labels": {"c2": {"overall": 7}}, "ideal": "because"});
    let ranked = queue.send(lea, &task, "ranking", ranking).await;
    assert_eq!((ranked.status, &ranked.body["id"]), (200, &task["id"]), "{ranked:?}");
    assert!(!ranked.body.to_string().contains("base_echo"), "nothing is revealed");
    assert_eq!(queue.rank(lea, &task).await.error().0, 409);
    assert_eq!(queue.next(lea).await, Value::Null);

    let data = app.snapshot();
    let ranking = data.rankings.iter().chain(&data.held_out_rankings).next().expect("one");
    assert_eq!(ranking.ranking.pairs().len(), 2, "a tie is a tie");
    let best = ranking.ranking.ranks().iter().position(|rank| *rank == 0).expect("a best");
    assert_eq!(ranking.quality[best], Some(7), "the mark goes with its answer");
    assert_eq!(queue.learned(), (1, 1));
    let progress = queue.progress(lea).await;
    assert_eq!((&progress["today"], &progress["total"], &progress["trust"]), (&json!(1), &json!(1), &Value::Null));
    assert!(progress["seconds_per_task"].as_f64().expect("a pace") < 60.0);
    let days = app.get("/v1/stats", &queue.olga).await.body["days"].clone();
    assert_eq!((&days[0]["source"], &days[0]["rankings"]), (&json!("queue"), &json!(1)));
}

#[actix_web::test]
async fn an_expired_lease_goes_to_others_and_late_work_counts_while_nobody_has_it() {
    let queue = Queue::start(|_| ()).await;
    queue.chat("one").await;
    let late = queue.next(&queue.lea).await;
    queue.lease_runs_out();
    let taken = queue.next(&queue.mia).await;
    assert_eq!(taken["messages"], late["messages"]);
    assert_ne!(taken["id"], late["id"]);
    let refused = queue.rank(&queue.lea, &late).await;
    assert_eq!(refused.error().0, 409);
    assert!(refused.body["error"]["message"].as_str().expect("a sentence").contains("ask for the next one"));
    assert_eq!(queue.rank(&queue.mia, &taken).await.status, 200);
    assert_eq!(queue.learned().0, 1);

    queue.chat("two").await;
    let mine = queue.next(&queue.lea).await;
    queue.lease_runs_out();
    assert_eq!(queue.rank(&queue.lea, &mine).await.status, 200, "nobody else has it");
    assert_eq!(queue.learned().0, 2);
}

#[actix_web::test]
async fn a_skipped_task_does_not_come_back_and_three_skips_end_it() {
    let queue = Queue::start(|_| ()).await;
    queue.chat("hard").await;
    let more = queue.app.person("noa", Role::Labeler);
    let task = queue.next(&queue.lea).await;
    assert_eq!(
        queue.send(&queue.lea, &task, "skip", json!({"reason": " "})).await.error(),
        (422, "unprocessable", Some("reason"))
    );
    assert_eq!(queue.send(&queue.lea, &task, "skip", json!({"reason": "no French"})).await.status, 200);
    assert_eq!(queue.next(&queue.lea).await, Value::Null);
    for key in [&queue.mia, &more] {
        let task = queue.next(key).await;
        assert_eq!(queue.send(key, &task, "skip", json!({"reason": "no idea"})).await.status, 200);
    }
    assert_eq!(queue.next(&queue.olga).await, Value::Null, "three have passed it over");
    assert_eq!(queue.progress(&queue.lea).await["skipped"], 1);
}

#[actix_web::test]
async fn a_labelers_own_prompt_comes_first_and_is_demonstrated() {
    let queue = Queue::start(|_| ()).await;
    queue.chat("logged").await;
    let own = json!({"messages": [{"role": "user", "content": "own"}]});
    assert_eq!(queue.app.post("/v1/labeling/prompts", &queue.ann, own.clone()).await.error().0, 403);
    assert_eq!(queue.app.post("/v1/labeling/prompts", &queue.mia, own).await.status, 201);
    assert_eq!(queue.next(&queue.lea).await["messages"][0]["content"], "own");

    let demonstrate = "/v1/labeling/next?kind=demonstrate";
    let task = queue.app.get(demonstrate, &queue.lea).await.body["task"].clone();
    assert_eq!((&task["kind"], &task["messages"][0]["content"]), (&json!("demonstrate"), &json!("own")));
    assert_eq!(task["candidates"], json!([]));
    assert_eq!(queue.send(&queue.lea, &task, "ranking", json!({"ranking": []})).await.error().0, 422);
    assert_eq!(
        queue.send(&queue.lea, &task, "ideal", json!({"ideal": ""})).await.error(),
        (422, "unprocessable", Some("ideal"))
    );
    assert_eq!(queue.send(&queue.lea, &task, "ideal", json!({"ideal": "the answer"})).await.status, 200);
    let data = queue.app.snapshot();
    let demonstration = data.demonstrations.iter().chain(&data.held_out_demonstrations).next().expect("one").clone();
    assert_eq!((demonstration.ideal.as_str(), demonstration.messages[0].content.as_str()), ("the answer", "own"));
    let next = queue.app.get(demonstrate, &queue.lea).await.body["task"].clone();
    assert_eq!(next["messages"][0]["content"], "logged", "not the same prompt twice");
    assert_eq!(queue.app.get("/v1/me/data", &queue.mia).await.body["prompts"][0]["messages"][0]["content"], "own");
    assert_eq!(queue.app.get("/v1/labeling/next?kind=dance", &queue.lea).await.error().0, 400);
}

#[actix_web::test]
async fn the_last_task_can_be_taken_back() {
    let queue = Queue::start(|_| ()).await;
    assert_eq!(queue.app.post("/v1/labeling/undo", &queue.lea, json!({})).await.error().0, 409);
    queue.chat("one").await;
    let task = queue.next(&queue.lea).await;
    assert_eq!(
        queue
            .send(
                &queue.lea,
                &task,
                "ranking",
                json!({"not_rankable": false, "ranking": [["c1"], ["c2"], ["c3"]], "ideal": "x"})
            )
            .await
            .status,
        200
    );
    assert_eq!(queue.learned(), (1, 1));
    let undone = queue.app.post("/v1/labeling/undo", &queue.lea, json!({})).await;
    assert_eq!((&undone.body["id"], &undone.body["candidates"]), (&task["id"], &task["candidates"]), "{undone:?}");
    assert_eq!(queue.learned(), (0, 0));
    assert_eq!(queue.next(&queue.lea).await["id"], task["id"]);
    assert_eq!(queue.rank(&queue.lea, &task).await.status, 200);
    assert_eq!(queue.learned(), (1, 0));
    let audited = "select count(*) from audit where action = 'labeling.undo'";
    let n: i64 = queue.app.write(move |c| Ok(c.query_row(audited, [], |row| row.get(0))?));
    assert_eq!(n, 1);
    let sql = "update labeling_tasks set finished_at = '2020-01-01T00:00:00.000000Z'";
    queue.app.write(move |c| Ok(c.execute(sql, [])?));
    assert_eq!(queue.app.post("/v1/labeling/undo", &queue.lea, json!({})).await.error().0, 409, "too late");
}

async fn put(app: &TestApp, key: &str, path: &str, body: Value) -> Answer {
    Answer::of(app.request(Method::PUT, path, key).json(&body).send().await.expect("an answer")).await
}

#[actix_web::test]
async fn gold_questions_measure_labelers_and_are_not_learned_from_twice() {
    let queue = Queue::start(|config| config.gold_share = 1.0).await;
    let (app, olga) = (&queue.app, &queue.olga);
    let request = json!({"messages": [{"role": "user", "content": "2 + 2?"}], "k": 3});
    let comparison = app.post("/v1/comparisons", olga, request).await.body;
    let path = format!("/v1/labeling/gold/{}", text_of(&comparison["id"]));
    assert_eq!(put(app, &queue.lea, &path, json!({})).await.error().0, 403);
    assert_eq!(put(app, olga, &path, json!({})).await.error().0, 409, "there is no ranking yet");
    let c: Vec<String> =
        comparison["candidates"].as_array().expect("three").iter().map(|c| text_of(&c["id"])).collect();
    let ranking = json!({"ranking": [[c[0]], [c[1]], [c[2]]]});
    let ranked = app.post(&format!("/v1/comparisons/{}/ranking", text_of(&comparison["id"])), olga, ranking).await;
    assert_eq!(ranked.status, 200);
    assert_eq!(put(app, olga, &path, json!({"ranking": [[c[0]]]})).await.error().0, 422);
    assert_eq!(put(app, olga, &path, json!({})).await.status, 204);
    let gold = app.get("/v1/labeling/gold", olga).await.body;
    assert_eq!(gold["gold"][0]["ranking"], json!([[c[0]], [c[1]], [c[2]]]));
    let answers: Vec<Value> = c.iter().map(|id| json!({"id": id, "content": "2 + 2?"})).collect();
    assert_eq!(gold["gold"][0]["answers"], json!(answers));

    // The answers are all the same here; where each stands in the task is known only to the database.
    let task = queue.next(&queue.lea).await;
    let id = text_of(&task["id"]);
    let order: String =
        app.write(move |c| Ok(c.query_row("select order_json from labeling_tasks where id = ?1", [id], |r| r.get(0))?));
    let order: Vec<usize> = serde_json::from_str(&order).expect("places");
    let shown_at = |stored: usize| format!("c{}", order.iter().position(|place| *place == stored).expect("shown") + 1);
    // Right but for the last two, which are swapped: two of three pairs.
    let verdict = json!({"ranking": [[shown_at(0)], [shown_at(2)], [shown_at(1)]]});
    assert_eq!(queue.send(&queue.lea, &task, "ranking", verdict).await.status, 200);
    assert_eq!(queue.next(olga).await, Value::Null, "not for who has ranked it");
    assert_eq!(queue.next(&queue.lea).await, Value::Null, "not twice");
    assert_eq!(queue.learned().0, 1, "the operator's own");

    let progress = queue.progress(&queue.lea).await;
    assert_eq!(progress["gold"], json!({"pairs": 3, "agreed": 2}));
    assert!((progress["trust"]["value"].as_f64().expect("trust") - 2.0 / 3.0).abs() < 1e-9);
    let stats = app.get("/v1/stats", olga).await.body;
    assert_eq!((&stats["agreement"]["pairs"], &stats["agreement"]["agreed"]), (&json!(3), &json!(2)));
    assert!(stats["agreement"]["alpha"].as_f64().is_some_and(|alpha| alpha < 1.0));
    let lea = stats["labelers"].as_array().expect("labelers").iter().find(|l| l["name"] == "lea").expect("lea").clone();
    assert_eq!((&lea["gold"]["pairs"], &lea["rankings"]), (&json!(3), &json!(0)));
    let results = app.get("/v1/labeling/gold", olga).await.body["gold"][0]["results"].clone();
    assert_eq!((results.as_array().map(Vec::len), &results[0]["name"]), (Some(1), &json!("lea")));
    assert_eq!(results[0]["ranking"], json!([[c[0]], [c[2]], [c[1]]]), "in the question's own terms");
    assert_eq!(results[0]["agreement"], json!({"pairs": 3, "agreed": 2}));
    let unset = app.request(Method::DELETE, &path, olga).send().await.expect("an answer");
    assert_eq!(unset.status(), 204);
    assert_eq!(queue.progress(&queue.lea).await["trust"], Value::Null, "it measures nobody any more");
    let noted = app.get("/v1/audit?action=labeling", olga).await.body["entries"].clone();
    let noted: Vec<_> =
        noted.as_array().expect("a list").iter().map(|e| (&e["actor"], &e["action"], &e["object"])).collect();
    let (actor, id) = (json!("olga"), &comparison["id"]);
    assert_eq!(noted, [(&actor, &json!("labeling.ungold"), id), (&actor, &json!("labeling.gold"), id)]);
}

#[actix_web::test]
async fn repeats_and_second_opinions_look_like_anything_else_and_train_nothing() {
    let queue = Queue::start(|config| (config.repeat_share, config.overlap_share) = (0.5, 0.5)).await;
    queue.chat("once").await;
    let first = queue.next(&queue.lea).await;
    assert_eq!(queue.rank(&queue.lea, &first).await.status, 200);
    // By chance it is the turn of a repeat or of a second opinion, and only one of them exists for each.
    let until = async |key: &str| loop {
        match queue.next(key).await {
            Value::Null => {}
            task => break task,
        }
    };
    let again = until(&queue.lea).await;
    let keys = |task: &Value| task.as_object().expect("a task").keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys(&again), &again["messages"]), (keys(&first), &first["messages"]));
    assert_ne!(again["id"], first["id"]);
    assert_eq!(queue.rank(&queue.lea, &again).await.status, 200);
    let second = until(&queue.mia).await;
    assert_eq!((keys(&second), &second["messages"]), (keys(&first), &first["messages"]));
    assert_eq!(queue.rank(&queue.mia, &second).await.status, 200);
    assert_eq!(queue.learned().0, 1, "the first ranking and no other");
    let (lea, mia) = (queue.progress(&queue.lea).await, queue.progress(&queue.mia).await);
    assert_eq!((&lea["repeats"]["pairs"], &lea["others"]["pairs"]), (&json!(3), &json!(3)));
    assert_eq!((&mia["repeats"]["pairs"], &mia["others"]), (&json!(0), &lea["others"]));
    assert_eq!(queue.app.get("/v1/stats", &queue.olga).await.body["agreement"]["comparisons"], 1);
    let data = queue.app.get("/v1/me/data", &queue.mia).await.body;
    assert_eq!(data["judgements"].as_array().map(Vec::len), Some(1));
}

#[actix_web::test]
async fn what_a_person_left_unranked_is_ranked_by_labelers_a_day_later() {
    let queue = Queue::start(|_| ()).await;
    let request = json!({"messages": [{"role": "user", "content": "left"}], "k": 2});
    let id = text_of(&queue.app.post("/v1/comparisons", &queue.ann, request).await.body["id"]);
    assert_eq!(queue.next(&queue.lea).await, Value::Null, "ann may still rank it");
    let sql = "update comparisons set created_at = '2020-01-01T00:00:00.000000Z'";
    queue.app.write(move |c| Ok(c.execute(sql, [])?));
    let task = queue.next(&queue.lea).await;
    assert_eq!(task["candidates"].as_array().map(Vec::len), Some(2));
    // Its owner comes back and ranks it after all: the labeler gets something else.
    let mine = queue.app.get(&format!("/v1/comparisons/{id}"), &queue.ann).await.body;
    let ranking = json!({"ranking": [[mine["candidates"][0]["id"]], [mine["candidates"][1]["id"]]]});
    assert_eq!(queue.app.post(&format!("/v1/comparisons/{id}/ranking"), &queue.ann, ranking).await.status, 200);
    assert_eq!(queue.next(&queue.lea).await, Value::Null);
    assert_eq!(queue.rank(&queue.lea, &task).await.error().0, 409);
    assert_eq!(queue.learned().0, 1);
}

#[actix_web::test]
async fn erasing_a_person_takes_their_prompts_out_of_the_queue_and_of_others_work() {
    let queue = Queue::start(|_| ()).await;
    queue.chat("one zebra-51c0").await;
    let task = queue.next(&queue.lea).await;
    let ranking = json!({"ranking": [["c1"], ["c2"], ["c3"]], "ideal": "for her"});
    assert_eq!(queue.send(&queue.lea, &task, "ranking", ranking).await.status, 200);
    queue.chat("two zebra-51c0").await;
    assert_ne!(queue.next(&queue.mia).await, Value::Null);
    assert_eq!(queue.learned(), (1, 1));
    let erase = queue.app.request(Method::DELETE, "/v1/me/data", &queue.ann).send().await.expect("an answer");
    assert!(erase.status().is_success());
    for file in ["hone.db", "hone.db-wal"] {
        let bytes = std::fs::read(queue.app.data.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(10).any(|text| text == b"zebra-51c0"), "{file} still holds it");
    }
    assert_eq!(queue.learned(), (0, 0));
    assert_eq!(queue.next(&queue.mia).await, Value::Null, "what she held is gone too");
}

#[actix_web::test]
async fn items_are_made_ahead() {
    let queue = Queue::start(|config| config.ready = 2).await;
    for i in 0..4 {
        queue.chat(&format!("prompt {i}")).await;
    }
    assert_ne!(queue.next(&queue.lea).await, Value::Null);
    let since = std::time::Instant::now();
    let made = "select count(*) from comparisons where for_queue = 1";
    while queue.app.write(move |c| Ok(c.query_row(made, [], |row| row.get::<_, i64>(0))?)) < 3 {
        assert!(since.elapsed() < std::time::Duration::from_secs(10), "two beside the one that is handed out");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn guidelines_are_hones_own_until_an_operator_writes_some() {
    let queue = Queue::start(|_| ()).await;
    let path = "/v1/labeling/guidelines";
    assert_eq!(queue.app.get(path, &queue.ann).await.error().0, 403);
    let own = queue.app.get(path, &queue.lea).await.body;
    assert_eq!(own["source"], "default");
    assert!(own["text"].as_str().expect("a text").contains("harmless"));
    assert_eq!(put(&queue.app, &queue.lea, path, json!({"text": "x"})).await.error().0, 403);
    let written = put(&queue.app, &queue.olga, path, json!({"text": "# Ours"})).await.body;
    assert_eq!(
        (&written["source"], &written["by"], &written["text"]),
        (&json!("operator"), &json!("olga"), &json!("# Ours"))
    );
    assert_eq!(queue.app.get(path, &queue.lea).await.body["text"], "# Ours");
    assert_eq!(put(&queue.app, &queue.olga, path, json!({"text": ""})).await.body["source"], "default");
}
