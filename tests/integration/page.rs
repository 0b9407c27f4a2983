//! The web page, and what is open to everybody.

use crate::support::TestApp;

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

#[actix_web::test]
async fn health_is_open_and_readiness_writes() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        let response = reqwest::get(format!("{}{path}", app.url)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
}
