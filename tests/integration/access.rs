//! Who may do what: keys, sign-in links, sessions, roles, rates.

use crate::support::{Answer, Setup, TestApp};
use hone::store::users::Role;
use reqwest::{Client, Method};
use serde_json::json;

#[actix_web::test]
async fn the_sign_in_link_gives_one_session() {
    let app = TestApp::start().await;
    let token = app.sign_in_url.split_once("token=").expect("a token").1;
    let browser = Client::new();
    let session = format!("{}/v1/session", app.url);
    let sign_in = || browser.post(&session).json(&json!({"token": token})).send();
    let response = sign_in().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let cookie = response.headers()["set-cookie"].to_str().expect("text").to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let answer = Answer::of(response).await;
    assert_eq!(answer.body["user"]["role"], "admin");
    assert_eq!(sign_in().await.expect("an answer").status(), 401, "a link works once");

    let cookie = cookie.split(';').next().expect("the pair").to_owned();
    let with_cookie = |method: Method, path: &str| {
        browser.request(method, format!("{}{path}", app.url)).header("cookie", cookie.clone())
    };
    let me = with_cookie(Method::GET, "/v1/session").send().await.expect("an answer");
    assert_eq!(Answer::of(me).await.body["user"]["name"], "admin");
    let forged = with_cookie(Method::POST, "/v1/policies/x/promote").header("origin", "http://evil.example");
    assert_eq!(forged.send().await.expect("an answer").status(), 403);
    let out = with_cookie(Method::DELETE, "/v1/session").send().await.expect("an answer");
    assert_eq!(out.status(), 204);
    assert_eq!(with_cookie(Method::GET, "/v1/me").send().await.expect("an answer").status(), 401);
}

#[actix_web::test]
async fn a_key_signs_in_too_and_a_wrong_one_does_not() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    assert_eq!(app.post("/v1/session", "ignored", json!({"api_key": key})).await.body["user"]["name"], "ann");
    assert_eq!(app.post("/v1/session", "ignored", json!({"api_key": "hone_0"})).await.error().0, 401);
    assert_eq!(app.get("/v1/me", "hone_0").await.error(), (401, "invalid_api_key", None));
    assert_eq!(app.get("/v1/me", &key).await.body["role"], "user");
    let nobody = Client::new().get(format!("{}/v1/models", app.url)).send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
}

#[actix_web::test]
async fn operators_routes_need_the_role() {
    let app = TestApp::start().await;
    let (labeler, operator) = (app.person("lea", Role::Labeler), app.person("olga", Role::Operator));
    for path in
        ["/v1/jobs", "/v1/policies", "/v1/stats", "/v1/jobs/job_x", "/v1/policies/pol_x", "/v1/jobs/job_x/events"]
    {
        assert_eq!(app.get(path, &labeler).await.error().0, 403, "{path}");
    }
    assert_eq!(app.post("/v1/jobs", &labeler, json!({"kind": "cycle"})).await.error().0, 403);
    assert_eq!(app.get("/v1/policies", &operator).await.body["champion"], "base_echo");
    assert_eq!(app.get("/v1/policies/base_echo", &operator).await.body["state"], "champion");
    assert_eq!(app.get("/v1/policies/pol_x", &operator).await.error().0, 404);
    assert_eq!(app.get("/v1/jobs", &operator).await.body["jobs"], json!([]));
    assert_eq!(app.get("/v1/jobs/job_x", &operator).await.error().0, 404);
    let unknown = app.post("/v1/jobs", &operator, json!({"kind": "dance"})).await;
    assert_eq!(unknown.error(), (400, "invalid_value", Some("kind")));
}

#[actix_web::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let mut setup = Setup::default();
    setup.config.limits.requests_per_minute_max = 3;
    let app = TestApp::with(setup).await;
    let key = app.person("ann", Role::User);
    for _ in 0..3 {
        assert_eq!(app.get("/v1/me", &key).await.status, 200);
    }
    let refused = app.get("/v1/me", &key).await;
    assert_eq!(refused.error().0, 429);
    let seconds: u64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=20).contains(&seconds));
}

#[actix_web::test]
async fn a_link_from_the_command_line_leads_to_the_running_server() {
    let app = TestApp::start().await;
    app.person("ann", Role::User);
    let link = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hone"));
        let output = command.arg("--data").arg(app.data.path()).args(["user", "link", "ann"]).output().expect("runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let url = link();
    assert!(url.starts_with(&format!("{}/#/sign-in?token=", app.url)), "{url}");
}
