//! What is not served as its object says, in words: for `duolb status` while no agent runs.

/// Problems that `PROBLEMS` has room for.
pub const PROBLEMS: u32 = 64;
/// Bytes of a problem that are kept.
pub const PROBLEM_LEN: usize = 256;

/// One thing that is not served as its object says, in words, for `duolb status`: an entry of `PROBLEMS`. Never read by
/// the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProblemText {
    /// UTF-8, filled up with zeros; nothing but zeros: no problem.
    pub text: [u8; PROBLEM_LEN],
}

impl Default for ProblemText {
    fn default() -> Self {
        Self {
            text: [0; PROBLEM_LEN],
        }
    }
}

impl ProblemText {
    /// The beginning of `text`, as much of it as there is room for.
    pub fn new(text: &str) -> Self {
        let mut this = Self::default();
        let fits = (0..=text.len().min(PROBLEM_LEN)).rev();
        let end = fits
            .into_iter()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        for (byte, from) in this
            .text
            .iter_mut()
            .zip(text.get(..end).unwrap_or_default().bytes())
        {
            *byte = from;
        }
        this
    }

    /// What it says; `None` if there is no problem.
    pub fn get(&self) -> Option<&str> {
        let text = self.text.split(|byte| *byte == 0).next()?;
        core::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_kept_up_to_its_length_and_never_cut_within_a_character() {
        assert_eq!(ProblemText::new("port 0").get(), Some("port 0"));
        assert_eq!(ProblemText::new("").get(), None);
        let long = "\u{e9}".repeat(PROBLEM_LEN);
        let kept = ProblemText::new(&long);
        assert_eq!(kept.get().unwrap().len(), PROBLEM_LEN);
        let odd = ProblemText::new(&["x", &long].concat());
        assert_eq!(odd.get().unwrap().len(), PROBLEM_LEN - 1);
    }
}
