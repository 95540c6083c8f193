//! Sizes of our programs.

use std::fs;
use std::path::Path;

use crate::bench::Bench;
use crate::error::Result;
use crate::row::{Measured, Side};
use crate::samples::{Samples, Unit};

/// One row for each program that was given.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let options = &bench.options;
    let ballast = Some(options.given.ballast().to_path_buf());
    let programs = [
        ("ballast-agent", &options.agent),
        ("ballast-init", &options.init),
        ("ballast", &ballast),
        ("ballast-assemble", &options.assemble),
    ];
    let row = |(name, path): (&str, &Option<_>)| {
        Measured::ours(format!("program {name}"), Unit::Bytes, size(path.as_deref()))
    };
    Ok(programs.into_iter().map(row).collect())
}

fn size(path: Option<&Path>) -> Side {
    match path.map(fs::metadata) {
        Some(Ok(metadata)) => Side::Seen(Samples::bytes(metadata.len())),
        Some(Err(error)) => Side::Missing(error.to_string()),
        None => Side::Missing("not given".into()),
    }
}
