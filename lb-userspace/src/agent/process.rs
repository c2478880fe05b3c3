//! What the agent does to its own process.

use std::fs;

/// Tells the kernel's out-of-memory killer how much it is missed (`--oom-score-adj`). A lower score needs
/// CAP_SYS_RESOURCE; without it the agent serves all the same.
pub(super) fn set_oom_score(score: i32) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::info!(score, "--oom-score-adj cannot be set: {error}");
    }
}
