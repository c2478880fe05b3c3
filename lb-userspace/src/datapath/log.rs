//! What the programs log, drained into the agent's own log.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::{DatapathError, Object};

/// A future that drains the log for as long as it is polled. The programs only write to it when they
/// were loaded with [`super::object::Settings::log`].
///
/// # Errors
/// [`DatapathError::Log`].
pub fn drain(object: &mut Object) -> Result<impl Future<Output = ()> + use<>, DatapathError> {
    let failed = |error: &dyn std::fmt::Display| DatapathError::Log(error.to_string());
    let logger = EbpfLogger::init(object).map_err(|error| failed(&error))?;
    // SAFETY: the logger owns its ring buffer's descriptor, the same one for as long as it lives, and is
    // moved into the AsyncFd, which deregisters it before it is dropped.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger.map_err(|error| failed(&error))?;
    Ok(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    })
}
