//! The time from local .debs to an image: our assembler beside mmdebstrap and mkfs on the same packages, in turns; and ours
//! again after one changed file.
//!
//! Ours ends with everything that is shipped: verified root, UKI, disk, qcow2, netboot image, compressed disk, manifest and
//! SBOM. Stock ends with a tree that has its initrd, and its ext4 root on the disk; its ESP is not counted.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ballast_contract::{File, Spec};

use crate::bench::{Bench, given, progress};
use crate::error::{Error, Result};
use crate::row::{Aim, Measured, Side};
use crate::samples::{Samples, Unit};
use crate::timed::{self, Took};

const AIM: f64 = 7.0;
const STOCK_PARTS: f64 = 5.0;
const CHANGE_AIM: f64 = 1.0;
const LIMIT: Duration = Duration::from_secs(300);

/// Rows: assembling, its processor time, and assembling again.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let dir = bench.dir("assembling")?;
    let mut spec = bench.spec()?;
    let mut times = Times::default();
    // The stock side prepares itself, and builds once, before anything is timed.
    let stock = bench.stock();
    for run in 1..=bench.options.runs {
        let took = assemble(bench, &spec, &dir)?;
        times.ours.push(took);
        change(&mut spec, run);
        let again = assemble(bench, &spec, &dir)?;
        times.again.push(again);
        let mut line =
            format!("run {run}: ours {:.2?}, one file changed {:.2?}", took.wall, again.wall);
        if let Ok(stock) = &stock {
            let built = stock.build()?;
            let whole = built.tree + built.file_system;
            times.stock.push(whole);
            line.push_str(&format!(
                ", mmdebstrap {:.2?}, mkfs {:.2?}",
                built.tree.wall, built.file_system.wall
            ));
        }
        progress(&line);
        clear(&dir)?;
    }
    let stock = |seconds: fn(&Took) -> f64| match &stock {
        Ok(_) => side(&times.stock, seconds),
        Err(error) => Side::from_error(error),
    };
    let because = "stock: mmdebstrap with its initrd, and mke2fs; ours: all that is shipped, the compressed disk too";
    Ok(vec![
        Measured::ours("assembling", Unit::Seconds, side(&times.ours, wall))
            .beside(stock(wall))
            .aiming(Aim::AtMost(AIM))
            .aiming(Aim::PartOfStock(STOCK_PARTS))
            .because(because),
        Measured::ours("assembling, processor time", Unit::Seconds, side(&times.ours, processor))
            .beside(stock(processor)),
        Measured::ours("assembling after one changed file", Unit::Seconds, side(&times.again, wall))
            .aiming(Aim::AtMost(CHANGE_AIM))
            .because("one file of the root changes the root's image, its hash tree, the UKI, and both compressed disks"),
    ])
}

#[derive(Default)]
struct Times {
    ours: Vec<Took>,
    again: Vec<Took>,
    stock: Vec<Took>,
}

fn wall(took: &Took) -> f64 {
    took.wall.as_secs_f64()
}

fn processor(took: &Took) -> f64 {
    took.processor.as_secs_f64()
}

fn side(times: &[Took], seconds: fn(&Took) -> f64) -> Side {
    Samples::new(times.iter().map(seconds).collect()).into()
}

fn assemble(bench: &Bench, spec: &Spec, dir: &Path) -> Result<Took> {
    let options = &bench.options;
    let document = dir.join("spec.json");
    let text = serde_json::to_vec(spec)
        .map_err(|source| Error::Document { path: document.clone(), source })?;
    fs::write(&document, text).map_err(Error::file("writing", &document))?;
    let (out, parts) = (dir.join("out"), dir.join("parts"));
    for output in [&out, &parts] {
        if output.exists() {
            fs::remove_dir_all(output).map_err(Error::file("removing", output))?;
        }
    }
    let mut command = Command::new(given(&options.assemble, "the assembler", "--assemble")?);
    command
        .arg("image")
        .args([Path::new("--spec"), &document])
        .args([
            Path::new("--packages"),
            given(&options.packages, "a list of packages", "--packages")?,
        ])
        .args([Path::new("--agent"), given(&options.agent, "the agent", "--agent")?])
        .args([Path::new("--init"), given(&options.init, "the initrd's program", "--init")?])
        .args([Path::new("--out"), &out])
        .args([Path::new("--parts"), &parts]);
    if let Some(tools) = &options.assembling_tools {
        command.env("PATH", tools);
    }
    if let Some(charsets) = &options.charsets {
        command.env("GCONV_PATH", charsets);
    }
    timed::run("ballast-assemble", &mut command, dir, LIMIT)
}

/// Another text in a file of its own, each time a different one.
fn change(spec: &mut Spec, run: u32) {
    let path = "/usr/share/ballast-bench".to_owned();
    spec.image.files.retain(|file| file.path != path);
    spec.image.files.push(File { path, mode: "0644".into(), text: format!("{run}\n") });
}

fn clear(dir: &Path) -> Result<()> {
    for name in ["out", "parts"] {
        let path = dir.join(name);
        fs::remove_dir_all(&path).map_err(Error::file("removing", path))?;
    }
    Ok(())
}
