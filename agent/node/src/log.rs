//! Log lines: one sentence each on standard error, with the priority prefix that sd-daemon(3) defines.

/// Something happened that a reader of the journal wants to know.
pub(crate) fn info(sentence: &str) {
    eprintln!("<6>{sentence}");
}

/// Something is wrong, and the agent goes on.
pub(crate) fn warn(sentence: &str) {
    eprintln!("<4>{sentence}");
}

/// Something is wrong, and what was asked for is not done.
pub(crate) fn error(sentence: &str) {
    eprintln!("<3>{sentence}");
}
