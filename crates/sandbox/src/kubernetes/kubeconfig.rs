//! A kubeconfig for one server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// The text of a kubeconfig (JSON, which is YAML) that reaches `server` with
/// this CA and token.
pub fn text(server: &str, ca_pem: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}}],
    });
    format!("{config:#}\n")
}
