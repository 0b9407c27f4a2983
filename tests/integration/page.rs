//! The web page, and what is open to everybody.

use crate::support::TestApp;
use hone::store::users::Role;
use serde_json::json;

#[actix_web::test]
async fn every_path_is_the_page_under_a_strict_policy() {
    let app = TestApp::start().await;
    for path in ["/", "/compare", "/some/deep/link"] {
        let response = reqwest::get(format!("{}{path}", app.url)).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert!(headers["content-type"].to_str().expect("text").starts_with("text/html"));
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(response.text().await.expect("text").contains("hone"));
    }
    let gone = reqwest::get(format!("{}/assets/gone.js", app.url)).await.expect("an answer");
    assert_eq!(gone.status(), 404, "an old build's script is not the page");
}

/// Only where the page has been built (`make web`, which `make test` does first).
#[actix_web::test]
async fn files_with_a_hash_in_their_name_are_cached_for_ever() {
    let app = TestApp::start().await;
    let client = reqwest::Client::new();
    let get = |path: String| client.get(format!("{}{path}", app.url));
    let page = get("/".into()).send().await.expect("an answer");
    if !page.headers().contains_key("etag") {
        assert!(page.text().await.expect("text").contains("make web"), "the page says how to build it");
        return;
    }
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let etag = page.headers()["etag"].clone();
    let page = page.text().await.expect("text");
    assert!(!page.contains("<script>") && !page.contains("<style"), "nothing inline");
    let known = get("/".into()).header("if-none-match", etag).send().await.expect("an answer");
    assert_eq!(known.status(), 304);
    let script = page.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(".js")).expect("a script");
    let script = get(script.to_owned()).send().await.expect("an answer");
    assert_eq!(script.status(), 200);
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    assert!(script.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    let whole = script.bytes().await.expect("a body").len();
    let path = page.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(".js")).expect("a script");
    let packed = get(path.to_owned()).header("accept-encoding", "gzip").send().await.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.bytes().await.expect("a body").len() < whole / 2, "the page's scripts travel compressed");
}

#[actix_web::test]
async fn health_is_open_and_readiness_writes() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        let response = reqwest::get(format!("{}{path}", app.url)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
}

#[actix_web::test]
async fn metrics_tell_of_answers_requests_and_the_queue() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let ask = json!({"messages": [{"role": "user", "content": "one two three"}], "n": 2, "max_tokens": 2});
    assert_eq!(app.post("/v1/chat/completions", &key, ask).await.status, 200);
    app.get("/v1/comparisons/cmp_none", &key).await;
    let made_up = reqwest::Method::from_bytes(b"BREW").expect("a method");
    reqwest::Client::new().request(made_up, &app.url).send().await.expect("an answer");
    let response = reqwest::get(format!("{}/metrics", app.url)).await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.expect("text");
    for line in [
        "hone_generation_tokens_total{model_name=\"base_echo\"} 4",
        "hone_prompt_tokens_total{model_name=\"base_echo\"} 6",
        "hone_time_to_first_token_seconds_count{model_name=\"base_echo\"} 2",
        "hone_inter_token_latency_seconds_count{model_name=\"base_echo\"} 2",
        "hone_request_success_total{model_name=\"base_echo\",finished_reason=\"length\"} 2",
        "hone_num_requests_running 0",
        "hone_num_requests_waiting 0",
        "hone_policy_loaded{model_name=\"base_echo\",role=\"champion\"} 1",
        "hone_http_requests_total{method=\"POST\",route=\"/v1/chat/completions\",status=\"200\"} 1",
        "hone_http_requests_total{method=\"GET\",route=\"/v1/comparisons/{id}\",status=\"404\"} 1",
        "hone_http_requests_total{method=\"other\",route=\"page\",status=\"405\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
