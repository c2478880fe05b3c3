//! Configurations that cannot be used: one line that names file, field and remedy, and an end.

use std::path::Path;

use duolb::source::kube::{Options, connect};

use crate::agent::options;

async fn message(kubeconfig: Option<&Path>, master: Option<&str>) -> String {
    let options = Options {
        kubeconfig: kubeconfig.map(Path::to_owned),
        master: master.map(str::to_owned),
        ..options(String::new())
    };
    let error = connect(&options).await.expect_err("it cannot be used");
    error.to_string()
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n";
    let context = "contexts: [{name: c, context: {cluster: c, user: u}}]\n";
    for (text, parts) in [
        ("{", &["is it a kubeconfig in YAML?"][..]),
        (
            "apiVersion: v1\nkind: Config\n",
            &["current context", "use-context"],
        ),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n",
            &["current-context names no context"],
        ),
        (
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n{context}users: [{{name: u, user: {{}}}}]\n"
            ),
            &["names no cluster"],
        ),
        (
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n{cluster}{context}\
                 users: [{{name: u, user: {{tokenFile: /nonexistent/token}}}}]\n"
            ),
            &["credentials", "/nonexistent/token"],
        ),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority: /nonexistent/ca}}]\n\
             contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n",
            &["/nonexistent/ca", "visible to the agent"],
        ),
    ] {
        let file = dir.path().join("kubeconfig");
        std::fs::write(&file, text).unwrap();
        let message = message(Some(&file), None).await;
        let named = message.contains(file.to_str().unwrap()) || message.contains("API server");
        assert!(named, "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!message.trim().contains("\n\n"), "{message}");
    }
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_named() {
    let message = message(Some(Path::new("/nonexistent/kubeconfig")), None).await;
    assert!(message.contains("/nonexistent/kubeconfig"), "{message}");
    assert!(message.contains("is the path right"), "{message}");
}

#[tokio::test]
async fn a_master_that_is_no_url_is_named() {
    for url in ["10.0.0.1:6443", "https://", "not a url"] {
        let message = message(None, Some(url)).await;
        assert!(
            message.contains(url) && message.contains("https://10.0.0.1:6443"),
            "{message}"
        );
    }
}
