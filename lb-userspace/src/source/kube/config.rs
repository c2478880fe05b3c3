//! Which API server and as whom: flags, kubeconfig, or what a pod finds around it.
//!
//! Read at the start, and again whenever the server does not accept what we have: tokens and certificates
//! are renewed in their files. Only what cannot be used at the start ends the source.

use std::{env, path::PathBuf, time::Duration};

use ::kube::config::{
    Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError,
};

use super::Options;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long nothing may come on a connection before it counts as dead: the server sends a bookmark on each
/// watch about once a minute (`bookmarkFrequency` in apiserver's cacher), and a firewall that forgot us sends
/// nothing at all.
const SILENCE: Duration = Duration::from_secs(150);

/// Why the configuration cannot be used. Messages contain their causes, which are no sources so that they are not
/// printed twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kubeconfig is absent, unreadable, or says too little.
    #[error("kubeconfig {}: {}: {remedy}", file.display(), first_line(cause))]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: Box<KubeconfigError>,
        /// What helps.
        remedy: &'static str,
    },
    /// `--master` is no address.
    #[error("--master {url:?}: {cause}: give a URL such as https://10.0.0.1:6443")]
    Master {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        cause: http::uri::InvalidUri,
    },
    /// `--master` is no complete address.
    #[error("--master {url:?}: no scheme or host: give a URL such as https://10.0.0.1:6443")]
    IncompleteMaster {
        /// As it was given.
        url: String,
    },
    /// In a pod, and its service account cannot be used.
    #[error(
        "service account of the pod: {0}: is automountServiceAccountToken off, or KUBERNETES_SERVICE_HOST wrong?"
    )]
    InCluster(InClusterError),
    /// Nothing says where the API server is.
    #[error(
        "no API server is known: set --kubeconfig or --master, or run in a pod (KUBERNETES_SERVICE_HOST is not set)"
    )]
    Nowhere,
    /// The certificates, keys or tokens cannot be used.
    #[error(
        "credentials for API server {server}: {cause}: the files must be visible to the agent, in a container too, \
         and hold certificate and key in PEM"
    )]
    Credentials {
        /// Its address.
        server: String,
        /// What is wrong with them.
        cause: Box<::kube::Error>,
    },
}

/// The configuration that `options` stand for.
pub(super) async fn load(options: &Options) -> Result<Config, Error> {
    let mut config = match (&options.kubeconfig, &options.master) {
        (Some(file), _) => from_file(file.clone()).await?,
        // As with kube-proxy, an address alone is taken for one that asks no questions.
        (None, Some(url)) => Config::new(parse_master(url)?),
        (None, None) if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster_env().map_err(Error::InCluster)?
        }
        (None, None) => from_file(default_file().ok_or(Error::Nowhere)?).await?,
    };
    if let Some(url) = &options.master {
        config.cluster_url = parse_master(url)?;
    }
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // Trying again is `watch`'s business, in one place and for all reasons.
    config.default_retry = false;
    Ok(config)
}

async fn from_file(file: PathBuf) -> Result<Config, Error> {
    let wrong = |cause| {
        let remedy = remedy(&cause);
        Error::Kubeconfig {
            file: file.clone(),
            cause: Box::new(cause),
            remedy,
        }
    };
    let kubeconfig = Kubeconfig::read_from(&file).map_err(wrong)?;
    let states_proxy = kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.is_some());
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(wrong)?;
    if !states_proxy {
        // A proxy from the environment is for the way out of the cluster, and nodes are in it.
        config.proxy_url = None;
    }
    Ok(config)
}

/// What `KUBECONFIG` names, or the file in the home directory, if it exists.
fn default_file() -> Option<PathBuf> {
    let named = env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    if let Some(list) = named {
        return env::split_paths(&list).find(|path| !path.as_os_str().is_empty());
    }
    let file = PathBuf::from(env::var_os("HOME")?).join(".kube/config");
    file.exists().then_some(file)
}

fn parse_master(url: &str) -> Result<http::Uri, Error> {
    let text = url.to_owned();
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(cause) => return Err(Error::Master { url: text, cause }),
    };
    if uri.scheme().is_none() || uri.host().is_none() {
        return Err(Error::IncompleteMaster { url: text });
    }
    Ok(uri)
}

/// Of a parser's picture of the place that it does not understand, what it says and not what it draws.
fn first_line(error: &KubeconfigError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What to do about it.
fn remedy(error: &KubeconfigError) -> &'static str {
    use KubeconfigError as E;
    match error {
        E::ReadConfig(..) => "is the path right and the file readable?",
        E::Parse(_) => "is it a kubeconfig in YAML?",
        E::CurrentContextNotSet => "set one: kubectl config use-context NAME --kubeconfig FILE",
        E::LoadContext(_) => "current-context names no context of the file",
        E::LoadClusterOfContext(_) => "the context names no cluster of the file",
        E::MissingClusterUrl => "set clusters[].cluster.server, or give --master",
        E::LoadCertificateAuthority(LoadDataError::ReadFile(..))
        | E::LoadClientCertificate(LoadDataError::ReadFile(..))
        | E::LoadClientKey(LoadDataError::ReadFile(..)) => {
            "the file must be visible to the agent, in a container too"
        }
        _ => "compare with: kubectl config view --raw",
    }
}
