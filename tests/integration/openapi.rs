//! The contract's machine-readable form: `web/openapi.json` is what the server serves, and what the web's types are made from.

#[test]
fn the_snapshot_is_what_the_server_serves() {
    let now = serde_json::to_string_pretty(&hone::http::openapi::document()).expect("writes") + "\n";
    // From the package's folder, where cargo runs tests.
    let path = "web/openapi.json";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).expect("writes the snapshot");
    }
    let snapshot = std::fs::read_to_string(path).unwrap_or_default();
    assert!(now == snapshot, "the API has changed: `make openapi` writes web/openapi.json and the web's types again");
}
