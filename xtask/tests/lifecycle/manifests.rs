//! A directory of manifests that a test writes, and a lab with agents on it.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Result;
use xtask::lab::{AgentOptions, Lab, Node};

/// The VIPs of the Service that [`Directory::serve`] writes.
pub(crate) const VIPS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 80)),
    IpAddr::V6(std::net::Ipv6Addr::new(
        0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x80,
    )),
];

/// The frontends of that Service, for TCP and UDP alike.
pub(crate) fn frontends() -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip, 80))
}

/// A directory that goes when it is dropped.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as editors do: whole, under another name, then renamed.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let (path, draft) = (self.path().join(name), self.path().join(format!(".{name}")));
        fs::write(&draft, text)?;
        fs::rename(draft, &path)?;
        Ok(path)
    }

    /// Service `web` with [`VIPS`], TCP and UDP, and these pods (node and pod number) as endpoints.
    pub(crate) fn serve(&self, pods: &[(u8, u8)]) -> Result<()> {
        self.write("web.yaml", &web(pods)).map(drop)
    }
}

/// The manifest of [`Directory::serve`].
pub(crate) fn web(pods: &[(u8, u8)]) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [\"{}\", \"{}\"]
  clusterIP: \"{0}\"
  selector: {{app: web}}
  ports:
  - {{name: tcp, port: 80, protocol: TCP}}
  - {{name: udp, port: 80, protocol: UDP}}
",
        VIPS[0], VIPS[1]
    );
    for (family, prefix) in [("IPv4", "10.244.N.P"), ("IPv6", "fd00:10:244:N::P")] {
        text += &format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{}, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports:
- {{name: tcp, port: 8080, protocol: TCP}}
- {{name: udp, port: 8080, protocol: UDP}}
endpoints:{}
",
            family.to_lowercase(),
            if pods.is_empty() { " []" } else { "" }
        );
        for (node, pod) in pods {
            let address = prefix
                .replace('N', &node.to_string())
                .replace('P', &pod.to_string());
            text += &format!("- {{addresses: [\"{address}\"], nodeName: node-{node}}}\n");
        }
    }
    text
}

/// A routed and a bridged node with two endpoints each, and an agent on both.
pub(crate) fn lab(directory: &Directory) -> Result<Lab> {
    let mut lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(2))
        .node(Node::bridged("node-2").endpoints(2))
        .build()?;
    lab.start_agents(&AgentOptions::from_env(directory.path())?)?;
    Ok(lab)
}
