//! What is logged, as it can be asked for at the start and changed while the agent runs.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Puts a filter into force, or says why it cannot.
type Setter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What is logged now, and the means to change it.
pub struct LogLevel {
    filter: Mutex<String>,
    set: Setter,
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel").field(&self.get()).finish()
    }
}

impl LogLevel {
    /// `filter` is in force; `set` changes it.
    pub fn new(
        filter: impl Into<String>,
        set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            filter: Mutex::new(filter.into()),
            set: Box::new(set),
        }
    }

    /// The filter in force.
    pub fn get(&self) -> String {
        self.filter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts `text` into force, a verbosity or a filter; the filter that it comes to.
    ///
    /// # Errors
    /// Why it is not a filter.
    pub fn set(&self, text: &str) -> Result<String, String> {
        let filter = match text.parse() {
            Ok(verbosity) => filter_of_verbosity(verbosity).to_owned(),
            Err(_) => text.to_owned(),
        };
        if filter.is_empty() {
            return Err("neither a verbosity nor a filter such as debug or target=level".into());
        }
        (self.set)(&filter)?;
        let mut now = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        filter.clone_into(&mut now);
        Ok(filter)
    }
}

/// The filter for a verbosity in Kubernetes' numbers: 2 is the usual, 4 for debugging, 6 and more trace. What the
/// libraries say stays one level behind.
pub fn filter_of_verbosity(verbosity: u32) -> &'static str {
    match verbosity {
        0..=3 => "info",
        4 | 5 => "info,duolb=debug",
        _ => "debug,duolb=trace",
    }
}
