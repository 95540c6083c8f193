//! The time Nix takes from the flake to the derivation of one image, its evaluation cache off.

use std::process::Command;
use std::time::Duration;

use crate::bench::Bench;
use crate::error::Result;
use crate::row::{Aim, Measured};
use crate::samples::{Samples, Unit};
use crate::timed;

const AIM: f64 = 0.5;
const LIMIT: Duration = Duration::from_secs(120);

/// One row: evaluating; what Nix needs for nothing at all explains it.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let dir = bench.dir("evaluation")?;
    let image = format!(
        "{}#packages.x86_64-linux.{}.drvPath",
        bench.options.flake, bench.options.image_name
    );
    let evaluate = |arguments: &[&str]| -> Result<f64> {
        let mut nix = Command::new("nix");
        nix.args(["--extra-experimental-features", "nix-command flakes", "eval"]).args(arguments);
        Ok(timed::run("nix", &mut nix, &dir, LIMIT)?.wall.as_secs_f64())
    };
    // The first one writes derivations and sources to the store; the others find them there.
    let first = evaluate(&["--no-eval-cache", "--raw", &image])?;
    let mut samples = Vec::new();
    for _ in 0..bench.options.runs {
        samples.push(evaluate(&["--no-eval-cache", "--raw", &image])?);
    }
    let nothing = evaluate(&["--expr", "0"])?;
    Ok(vec![
        Measured::ours("evaluating the flake", Unit::Seconds, Samples::new(samples).into())
            .aiming(Aim::AtMost(AIM))
            .because(format!(
                "Nix itself takes {nothing:.2} s to evaluate 0; the first time, with derivations to write, was {first:.2} s"
            )),
    ])
}
