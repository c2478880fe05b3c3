//! A real kube-apiserver over a real etcd, for as long as a test runs.
//!
//! `KUBEBUILDER_ASSETS` names the directory with both binaries, as `setup-envtest` provides them. All of it is on
//! loopback and in a temporary directory; the server makes its own certificate, and a token lets us in.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use duolb::source::kube::Options;
use http::Request;
use kube::{
    client::Client,
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::{
    agent::options,
    objects::{place, resource},
};

/// How long the two may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "only-for-this-test";

/// Both processes; dropped, they are gone, and their directory with them.
pub(crate) struct Real {
    processes: Vec<Child>,
    kubeconfig: PathBuf,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Real {
    /// `None`, and a line that says so, where there are no binaries.
    pub(crate) async fn start() -> Option<Self> {
        let Some(assets) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            println!("not run against a real API server: KUBEBUILDER_ASSETS is not set");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (etcd, peer, secure) = (free_port(), free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        fs::write(path.join("sa.key"), key).expect("written");
        fs::write(
            path.join("tokens"),
            format!("{TOKEN},test,test,system:masters\n"),
        )
        .expect("written");
        let file = |name: &str| path.join(name).display().to_string();
        let processes = vec![
            spawn(
                &assets.join("etcd"),
                path,
                &[
                    &format!("--data-dir={}", file("etcd")),
                    &format!("--listen-client-urls={etcd_url}"),
                    &format!("--advertise-client-urls={etcd_url}"),
                    &format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                    "--unsafe-no-fsync",
                ],
            ),
            spawn(
                &assets.join("kube-apiserver"),
                path,
                &[
                    &format!("--etcd-servers={etcd_url}"),
                    "--bind-address=127.0.0.1",
                    &format!("--secure-port={secure}"),
                    &format!("--cert-dir={}", file("certs")),
                    &format!("--token-auth-file={}", file("tokens")),
                    &format!("--service-account-key-file={}", file("sa.key")),
                    &format!("--service-account-signing-key-file={}", file("sa.key")),
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--service-cluster-ip-range=10.96.0.0/16",
                    "--authorization-mode=RBAC",
                    "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                    "--endpoint-reconciler-type=none",
                ],
            ),
        ];
        let kubeconfig = path.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{secure}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: u, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        fs::write(&kubeconfig, text).expect("written");
        let read = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
        let current = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(read, &current).await;
        let mut config = config.expect("a configuration");
        config.proxy_url = None;
        let real = Self {
            processes,
            kubeconfig,
            client: Client::try_from(config).expect("a client"),
            _directory: directory,
        };
        real.wait().await;
        Some(real)
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            kubeconfig: Some(self.kubeconfig.clone()),
            master: None,
            ..options(String::new())
        }
    }

    /// Waits till it is ready and has its default namespace.
    async fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            loop {
                let request = Request::get(path).body(Vec::new()).expect("a request");
                match self.client.request_text(request).await {
                    Ok(_) => break,
                    Err(error) => assert!(
                        Instant::now() < deadline,
                        "{path}: {error}; see {}",
                        self.kubeconfig.parent().expect("a directory").display()
                    ),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Creates or replaces an object, so that it says what `object` says and no more.
    pub(crate) async fn put(&self, object: &Value) {
        let (namespace, name) = place(object);
        let path = format!(
            "{}/{name}?fieldManager=test&force=true",
            resource(object).path(namespace)
        );
        let request = Request::patch(path)
            .header("Content-Type", "application/apply-patch+yaml")
            .body(object.to_string().into_bytes())
            .expect("a request");
        let put = self.client.request::<Value>(request).await;
        put.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, object: &Value) {
        let (namespace, name) = place(object);
        let path = format!("{}/{name}", resource(object).path(namespace));
        let request = Request::delete(path).body(Vec::new()).expect("a request");
        let deleted = self.client.request::<Value>(request).await;
        deleted.unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(binary: &Path, directory: &Path, arguments: &[&str]) -> Child {
    let name = binary.file_name().expect("a name").display().to_string();
    let log = File::create(directory.join(format!("{name}.log"))).expect("a log");
    let child = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the same log"))
        .stderr(log)
        .spawn();
    child.unwrap_or_else(|error| panic!("{}: {error}", binary.display()))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
