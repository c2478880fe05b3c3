//! The pages, over real connections.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{log_level::filter_of_verbosity, *};
use crate::{
    config::{Origin, kube_proxy::KubeProxyConfiguration, resolve},
    health::{Health, Moment},
    metrics::{Metrics, Reading, Snapshot},
    model::Node,
    source::Event,
};

#[derive(Debug)]
struct Nothing;

impl Reading for Nothing {
    fn read(&self) -> anyhow::Result<Snapshot> {
        Ok(Snapshot::default())
    }
}

/// A server under test, on a port of its own.
struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(server::serve(listener, router, stopped));
        Self {
            address,
            stop,
            task,
        }
    }

    /// Status, head and body of an answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = self.address;
        let asking = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = tokio::task::spawn_blocking(asking).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", path, "").await
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Box::new(Nothing)))
}

fn pages(metrics: Arc<Metrics>, profiling: bool) -> Arc<MetricsPages> {
    let proxy = KubeProxyConfiguration::default();
    let configuration = resolve(proxy, Origin::Flags).unwrap();
    let log_level = LogLevel::new("info", |filter| match filter {
        "nonsense" => Err("not a filter".into()),
        _ => Ok(()),
    });
    Arc::new(MetricsPages {
        metrics,
        configz: configuration.configz(),
        log_level,
        profiling,
    })
}

#[tokio::test]
async fn rule_85_health_pages_answer_by_status_and_json_and_are_counted() {
    let (health, metrics) = (Arc::new(Mutex::new(Health::new(false))), metrics());
    let running = Running::start(health_router(health.clone(), metrics.clone())).await;
    let (status, head, body) = running.get("/healthz").await;
    assert_eq!(status, 503, "no Node yet");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["nodeEligible"], false);
    let (status, _, body) = running.get("/livez").await;
    assert!(status == 200 && !body.contains("nodeEligible"), "{body}");

    let node = Event::ApplyNode(Node::default());
    with_health(&health, |health| health.queue(&node, Moment::now()));
    assert_eq!(running.get("/healthz").await.0, 200);
    assert_eq!(running.get("/other").await.0, 404);
    let text = metrics.encode();
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "kubeproxy_proxy_livez_total{code=\"200\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn rule_89_the_metrics_server_has_kube_proxys_pages() {
    let running = Running::start(metrics_router(pages(metrics(), false))).await;
    let (status, head, body) = running.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("# TYPE kubeproxy_sync_proxy_rules_service_changes_total counter\n"));
    let (status, _, body) = running.get("/healthz").await;
    assert_eq!((status, body.as_str()), (200, "ok"));
    let (status, head, body) = running.get("/proxyMode").await;
    assert_eq!((status, body.as_str()), (200, "ebpf"));
    assert!(head.contains("text/plain"), "{head}");
    let (status, _, body) = running.get("/configz").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        body["kubeproxy.config.k8s.io"]["kind"],
        "KubeProxyConfiguration"
    );
    assert_eq!(running.ask("POST", "/metrics", "").await.0, 405);
}

#[tokio::test]
async fn the_log_level_can_be_changed_while_the_agent_runs() {
    let running = Running::start(metrics_router(pages(metrics(), false))).await;
    assert_eq!(running.get("/debug/flags/v").await.2, "info");
    let (status, _, body) = running.ask("PUT", "/debug/flags/v", "4\n").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        running.get("/debug/flags/v").await.2,
        filter_of_verbosity(4)
    );
    let (status, _, body) = running.ask("PUT", "/debug/flags/v", "nonsense").await;
    assert_eq!((status, body.as_str()), (400, "not a filter\n"));
    assert_eq!(running.ask("PUT", "/debug/flags/v", "").await.0, 400);
    assert_eq!(
        running.get("/debug/flags/v").await.2,
        filter_of_verbosity(4)
    );
}

#[tokio::test]
async fn servers_close_when_the_agent_stops() {
    let running = Running::start(metrics_router(pages(metrics(), false))).await;
    // Whoever never gets to the end of a request does not hold the agent up.
    let mut idle = TcpStream::connect(running.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    running.get("/healthz").await;
    running.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running.task)
        .await
        .expect("closed in time")
        .unwrap();
    drop(idle);
    assert!(TcpStream::connect(running.address).is_err());
}

fn server(address: SocketAddr, hard_fail: bool) -> Server {
    Server {
        name: "metrics",
        flag: "metrics-bind-address",
        address,
        hard_fail,
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag_and_is_the_end_only_if_told_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let error = server(address, true)
        .run(Router::new(), stopped.clone())
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "cannot listen on {address} (--metrics-bind-address)"
        )),
        "{error}"
    );

    let patient = tokio::spawn(server(address, false).run(Router::new(), stopped));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!patient.is_finished(), "it tries again");
    stop.send(true).unwrap();
    patient.await.unwrap().unwrap();
}
