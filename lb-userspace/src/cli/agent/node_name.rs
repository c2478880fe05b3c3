//! The name of the node the agent runs on.

use anyhow::{Context as _, bail};

/// The name that was `told`, else `NODE_NAME` of the environment, else the host's name.
///
/// kube-proxy goes from the first to the last. `NODE_NAME` is what DaemonSets commonly call `spec.nodeName`, and
/// where it is set it is right, while a host's name need not be its node's: with a wrong one, local policies
/// and topology would be wrong without a word.
///
/// # Errors
/// If the host's name is needed and is none.
pub(super) fn find(told: Option<&str>) -> anyhow::Result<String> {
    let environment = std::env::var("NODE_NAME").ok();
    if let Some(name) = choose(told, environment.as_deref()) {
        return Ok(name);
    }
    let host = nix::unistd::gethostname().context("cannot tell the host's name")?;
    match normalize(&host.to_string_lossy()) {
        Some(name) => Ok(name),
        None => bail!("the host has no name: --hostname-override is needed"),
    }
}

fn choose(told: Option<&str>, environment: Option<&str>) -> Option<String> {
    [told, environment]
        .into_iter()
        .flatten()
        .find_map(normalize)
}

/// Node names are lower case (RFC 1123).
fn normalize(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_counts_before_the_environment_and_names_are_lower_case() {
        let chosen = |told, environment| choose(told, environment);
        assert_eq!(
            chosen(Some(" Node-1\n"), Some("x")).as_deref(),
            Some("node-1")
        );
        assert_eq!(chosen(None, Some("Node-2")).as_deref(), Some("node-2"));
        assert_eq!(chosen(None, Some(" ")), None);
        assert_eq!(chosen(None, None), None);
    }
}
