//! Certificates that do not fit: which one, and what to do about it.

use std::path::Path;

use duolb::source::kube::Options;

use crate::{
    agent::{Agent, options},
    double::{
        Double,
        tls::{Authority, acceptor, authority},
    },
    objects::{NODE, node, service, slice},
};

/// A double behind TLS with a certificate of `authority` for `name`.
async fn double(authority: &Authority, name: &str, is_expired: bool) -> Double {
    let double = Double::start_with(Some(acceptor(authority, name, is_expired))).await;
    double.put(&node(NODE, "a"));
    double.put(&service("web", "0.20"));
    double.put(&slice("web-1", "web", &["10.0.0.1"]));
    double
}

/// A kubeconfig in `dir` that trusts `authority`.
fn trusting(dir: &Path, double: &Double, authority: &Authority) -> Options {
    std::fs::write(dir.join("ca.crt"), authority.pem()).unwrap();
    let kubeconfig = dir.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        double.url(),
    );
    std::fs::write(&kubeconfig, text).unwrap();
    Options {
        kubeconfig: Some(kubeconfig),
        master: None,
        ..options(String::new())
    }
}

async fn tells(double: &Double, trusted: &Authority, parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&trusting(dir.path(), double, trusted)).await;
    agent.until("it is told", |agent| agent.tells(parts)).await;
    assert_eq!(agent.problems().len(), 1, "{:#?}", agent.problems());
    assert_eq!(agent.said, []);
}

#[tokio::test]
async fn a_server_that_we_trust_is_listened_to() {
    let authority = authority();
    let double = double(&authority, "127.0.0.1", false).await;
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&trusting(dir.path(), &double, &authority)).await;
    let endpoints = ["10.0.0.1:8080"];
    agent
        .until("web is served", |agent| {
            agent.leads("10.96.0.20:80", &endpoints)
        })
        .await;
}

#[tokio::test]
async fn an_expired_certificate_is_told() {
    let authority = authority();
    let double = double(&authority, "127.0.0.1", true).await;
    tells(&double, &authority, &["certificate has expired", "renew"]).await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_told() {
    let double = double(&authority(), "127.0.0.1", false).await;
    tells(
        &double,
        &authority(),
        &["unknown authority", "certificate-authority"],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told() {
    let authority = authority();
    let double = double(&authority, "kubernetes.default.svc", false).await;
    tells(&double, &authority, &["other names", "tls-server-name"]).await;
}
