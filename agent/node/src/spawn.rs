//! Starting another program and waiting for it: what it was, how it ended and what it said are always told.

use std::process::{Command, Stdio};

use crate::error::Error;

/// Runs a program to its end; its standard output is the result.
///
/// # Errors
/// It could not be started, or ended with another status than 0.
pub(crate) fn run(argv: &[&str]) -> Result<Vec<u8>, Error> {
    let [program, arguments @ ..] = argv else { return Ok(Vec::new()) };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: (*program).to_owned(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Ended {
        program: argv.join(" "),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let error = run(&["sh", "-c", "echo no such thing >&2; exit 3"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo no such thing >&2; exit 3 ended with exit status: 3: no such thing"
        );
    }
}
