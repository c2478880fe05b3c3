//! Ctrl-C, SIGTERM and a closed terminal while a lab exists: a flag instead of sudden death.
//!
//! Whatever waits in the lab looks at the flag and fails with an error, so that the stack unwinds and
//! everything is taken away in order. Who cannot wait sends the signal twice.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

static FLAG: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the second signal finds the flag set.
        let ends = flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag));
        ends.and_then(|_| flag::register(signal, Arc::clone(&flag)))
            .expect("handlable signals");
    }
    flag
});

/// Catches the signals from now on.
pub fn install() {
    LazyLock::force(&FLAG);
}

/// Whether a signal came.
pub fn is_set() -> bool {
    FLAG.load(Ordering::Relaxed)
}

/// Fails if a signal came.
///
/// # Errors
/// `interrupted`.
pub fn check() -> Result<()> {
    if is_set() {
        bail!("interrupted");
    }
    Ok(())
}
