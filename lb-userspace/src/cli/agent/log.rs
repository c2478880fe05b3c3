//! Starts the log.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{
    EnvFilter, filter::ParseError, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::{
    cli::arguments::{LogArguments, LogFormat},
    config::kube_proxy::Logging,
    serve::{LogLevel, log_level::filter_of_verbosity},
};

/// kube-rs warns of each failed attempt anew, every half a minute for as long as an API server is away or refuses,
/// and names no remedy. The source tells the same once. `--log-level info,kube_client=debug` lets it speak.
const TOLD_BY_US: &str = "kube_runtime=off,kube_client=off";

/// Starts it as flags say, else as the configuration does (kube-proxy's `copyLogsFromFlags`).
///
/// # Errors
/// A filter that is none.
pub(super) fn start(arguments: LogArguments, logging: &Logging) -> anyhow::Result<LogLevel> {
    let (filter, format) = choose(&arguments, logging);
    let parsed = parse(&filter).with_context(|| format!("--log-level {filter:?}"))?;
    let (parsed, handle) = reload::Layer::new(parsed);
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(parsed);
    match format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
    Ok(LogLevel::new(filter, move |filter| {
        let parsed = parse(filter).map_err(|error| format!("{filter:?}: {error}"))?;
        handle.reload(parsed).map_err(|error| error.to_string())
    }))
}

fn parse(filter: &str) -> Result<EnvFilter, ParseError> {
    // Of two directives for one target the later counts, and any of these before those for all targets.
    EnvFilter::try_new(format!("{TOLD_BY_US},{filter}"))
}

/// What counts: our flags, kube-proxy's flags, the configuration, the usual.
fn choose(arguments: &LogArguments, logging: &Logging) -> (String, LogFormat) {
    let verbosity = arguments
        .verbosity
        .or(logging.verbosity)
        .unwrap_or_default();
    let filter = arguments
        .log_level
        .clone()
        .unwrap_or_else(|| filter_of_verbosity(verbosity).to_owned());
    let configured = match logging.format.as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Text,
    };
    let format = arguments.log_format.or(arguments.logging_format);
    (filter, format.unwrap_or(configured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_source_tells_once_kube_rs_does_not_tell_again_unless_asked_to() {
        let of = |filter: &str, target: &str| {
            let filter = parse(filter).unwrap().to_string();
            let parts = filter.split(',').filter(|part| part.starts_with(target));
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of("info", "kube_client"), ["kube_client=off"]);
        assert_eq!(of("trace", "kube_runtime"), ["kube_runtime=off"]);
        let asked = "info,kube_client=debug";
        assert_eq!(of(asked, "kube_client"), ["kube_client=debug"]);
        assert_eq!(of(asked, "kube_runtime"), ["kube_runtime=off"]);
    }

    #[test]
    fn flags_count_before_the_configuration_and_ours_before_kube_proxys() {
        let none = || LogArguments {
            log_level: None,
            log_format: None,
            datapath_log: false,
            verbosity: None,
            logging_format: None,
        };
        let configured = Logging {
            format: Some("json".into()),
            verbosity: Some(4),
            ..Logging::default()
        };
        let usual = Logging::default();
        assert_eq!(choose(&none(), &usual), ("info".into(), LogFormat::Text));
        let debug = "info,duolb=debug".to_owned();
        assert_eq!(choose(&none(), &configured), (debug, LogFormat::Json));
        let typed = LogArguments {
            verbosity: Some(2),
            logging_format: Some(LogFormat::Text),
            ..none()
        };
        assert_eq!(
            choose(&typed, &configured),
            ("info".into(), LogFormat::Text)
        );
        let typed = LogArguments {
            log_level: Some("warn".into()),
            log_format: Some(LogFormat::Json),
            ..typed
        };
        assert_eq!(choose(&typed, &usual), ("warn".into(), LogFormat::Json));
    }
}
