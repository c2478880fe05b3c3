//! What a failed request means: a line for whoever runs the agent, with the remedy, and how to go on.
//!
//! Errors are told apart by their types and status codes, never by their text. All of them are tried again.

use std::{error::Error as StdError, io, time::Duration};

use ::kube::{
    Error,
    client::AuthError,
    core::Status,
    runtime::watcher::{self, Error as Failure},
};
use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error as Tls, pki_types::UnixTime};

use super::kinds::Watched;

/// Something went wrong.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The resource, where only that is concerned; else empty.
    pub(super) field: String,
    /// What to tell; `None` if it is part of the normal course of things.
    pub(super) text: Option<String>,
    /// How to go on.
    pub(super) again: Again,
    /// How long to wait at least, as the server asked.
    pub(super) at_least: Duration,
}

/// How to go on after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Where the watcher stands: it knows what to do next.
    Here,
    /// With a new listing.
    Anew,
    /// Without this kind, for now.
    Without,
}

impl Trouble {
    /// Events that cannot be in this order.
    pub(super) fn disorder(text: String) -> Self {
        Self {
            field: String::new(),
            text: Some(text),
            again: Again::Anew,
            at_least: Duration::ZERO,
        }
    }
}

/// The API's name of the resource `W`, as RBAC and messages have it.
fn resource<W: Watched>() -> String {
    if W::GROUP.is_empty() {
        W::PLURAL.to_owned()
    } else {
        format!("{}.{}", W::PLURAL, W::GROUP)
    }
}

/// What `failure` of the watch of `W` means.
pub(super) fn find<W: Watched>(failure: &watcher::Error) -> Trouble {
    match failure {
        Failure::WatchError(status) => of_status::<W>(status, "watch"),
        Failure::InitialListFailed(error) => of_error::<W>(error, "list"),
        Failure::WatchStartFailed(error) => of_error::<W>(error, "watch"),
        Failure::WatchFailed(error) => match error {
            // An event that cannot be read is lost, and with it what it said.
            Error::SerdeError(error) => Trouble {
                field: resource::<W>(),
                text: Some(format!("an event cannot be read: {error}: listed anew")),
                again: Again::Anew,
                at_least: Duration::ZERO,
            },
            error => of_error::<W>(error, "watch"),
        },
        Failure::NoResourceVersion => Trouble {
            field: resource::<W>(),
            text: Some("objects without resourceVersion: is this a Kubernetes API server?".into()),
            again: Again::Anew,
            at_least: Duration::ZERO,
        },
    }
}

fn of_error<W: Watched>(error: &Error, verb: &str) -> Trouble {
    let (field, text) = match error {
        Error::Api(status) => return of_status::<W>(status, verb),
        Error::SerdeError(error) => (
            resource::<W>(),
            format!("what it lists cannot be read: {error}: is this a Kubernetes API server?"),
        ),
        // The way there: the same for all kinds.
        error => (String::new(), of_way(error)),
    };
    Trouble {
        field,
        text: Some(text),
        again: Again::Here,
        at_least: Duration::ZERO,
    }
}

/// What a server's refusal means.
fn of_status<W: Watched>(status: &Status, verb: &str) -> Trouble {
    let resource = resource::<W>();
    let said = if status.message.is_empty() {
        status.reason.as_str()
    } else {
        status.message.as_str()
    };
    let too_large = |status: &Status| {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .into_iter()
            .any(|cause| cause.reason == "ResourceVersionTooLarge")
    };
    let mut again = Again::Here;
    let mut field = resource.clone();
    let text = match status.code {
        // The server has forgotten the version we are at: to be expected after a pause.
        410 => {
            again = Again::Anew;
            None
        }
        // It has never known it: another server, or one restored from a backup.
        _ if too_large(status) => {
            again = Again::Anew;
            None
        }
        401 => {
            field.clear();
            Some(
                "it does not know us (401): the token or client certificate is wrong or expired; \
                 read again before the next attempt"
                    .to_owned(),
            )
        }
        403 => {
            if W::OPTIONAL {
                again = Again::Without;
            }
            Some(format!(
                "may not {verb} (403): {said}: bind this account to a ClusterRole that may get, list and \
                 watch {resource} (ClusterRole duolb in deploy/)"
            ))
        }
        404 if W::OPTIONAL => {
            again = Again::Without;
            tracing::info!("{resource}: this cluster has none (before Kubernetes 1.33)");
            None
        }
        404 => {
            let group = if W::GROUP.is_empty() { "v1" } else { W::GROUP };
            Some(format!(
                "not served (404): an API server of another version, or none at all: {group}/v1 is needed \
                 (Kubernetes 1.21 or newer)",
            ).replace("v1/v1", "v1"))
        }
        429 => Some(format!("busy (429): {said}")),
        code => Some(format!("{verb} failed ({code}): {said}")),
    };
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    Trouble {
        field,
        text,
        again,
        at_least: Duration::from_secs(seconds.min(60).into()),
    }
}

/// What a failure on the way to the server means.
fn of_way(error: &Error) -> String {
    if let Some(tls) = find_cause::<Tls>(error) {
        return of_tls(tls);
    }
    if let Some(AuthError::ReadTokenFile(source, file)) = find_cause::<AuthError>(error) {
        return format!(
            "token file {}: {source}: is it mounted and readable?",
            file.display()
        );
    }
    if let Some(io) = find_cause::<io::Error>(error) {
        let remedy = match io.kind() {
            io::ErrorKind::ConnectionRefused => {
                "connection refused: is it running, and the address right (--master, or server in the kubeconfig)?"
            }
            io::ErrorKind::TimedOut => "no answer: is a firewall in between, or the address wrong?",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "no route to it: is the node's network up?"
            }
            _ => return format!("connection failed: {io}"),
        };
        return remedy.to_owned();
    }
    format!("request failed: {}", last_cause(error))
}

/// What a failed TLS handshake means.
fn of_tls(error: &Tls) -> String {
    use CertificateError as C;
    let remedy = match error {
        Tls::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            "its certificate has expired: renew it (kubeadm certs renew apiserver), and compare the clocks"
        }
        Tls::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: compare the clocks"
        }
        Tls::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            "its certificate is from an unknown authority: does certificate-authority in the kubeconfig belong to \
             this cluster?"
        }
        Tls::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "its certificate is for other names than this address: use one of those, or tls-server-name in the \
             kubeconfig"
        }
        Tls::AlertReceived(
            AlertDescription::CertificateExpired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA,
        ) => "it does not accept our client certificate: is it expired, or of another cluster?",
        _ => "TLS failed: is this the secure port of an API server?",
    };
    // Not the time of the attempt: the same trouble is told in the same words, and so once.
    match error {
        Tls::InvalidCertificate(C::ExpiredContext { not_after, .. }) => {
            format!("{remedy} (valid until {})", date(*not_after))
        }
        Tls::InvalidCertificate(C::NotValidYetContext { not_before, .. }) => {
            format!("{remedy} (valid from {})", date(*not_before))
        }
        error => format!("{remedy} ({error})"),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// The first error of type `T` among `error` and its causes.
fn find_cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            // An I/O error that only wraps another one says less than that.
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(|io| find_cause::<T>(io.get_ref()?));
            return Some(inner.unwrap_or(found));
        }
        next = match error.downcast_ref::<io::Error>() {
            // Its `source` is the source of what it wraps, not that itself.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn last_cause(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
