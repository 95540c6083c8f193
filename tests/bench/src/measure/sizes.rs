//! Sizes of what is shipped and of what is in it, beside the stock image's.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ballast_machines::cluster::CONSUL_SERVER;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::row::{Aim, Measured, Side};
use crate::samples::{Samples, Unit};

/// What `stat` counts in, whatever the file system (stat(2)).
const BLOCK: u64 = 512;
/// Compressed for transport.
const TRANSPORT_BYTES: f64 = 60e6;

/// One row per artefact.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let images = bench.options.given.images()?;
    let image = images.of(CONSUL_SERVER)?.shipped()?;
    let parts = images.of(CONSUL_SERVER)?.parts()?;
    let stock = bench.stock();
    let beside = |file: &dyn Fn(&crate::stock::Stock) -> Result<Side>| match &stock {
        Ok(stock) => file(stock).unwrap_or_else(|error| Side::from_error(&error)),
        Err(error) => Side::from_error(error),
    };
    let ours = |name: &str, path: &Path, size: fn(&Metadata) -> u64| {
        Measured::ours(
            name,
            Unit::Bytes,
            look(path, size).unwrap_or_else(|error| Side::from_error(&error)),
        )
    };
    let disk = image.join("disk.raw");
    Ok(vec![
        ours("disk.raw, apparent", &disk, Metadata::len)
            .beside(beside(&|stock| look(&stock.disk(), Metadata::len))),
        ours("disk.raw, allocated", &disk, allocated)
            .beside(beside(&|stock| look(&stock.disk(), allocated))),
        ours("disk.raw.zst", &image.join("disk.raw.zst"), Metadata::len)
            .aiming(Aim::AtMost(TRANSPORT_BYTES))
            .because("the root is compressed once already, for booting from it"),
        ours("disk.qcow2", &image.join("disk.qcow2"), Metadata::len),
        ours("netboot.efi", &image.join("netboot.efi"), Metadata::len),
        ours("root.erofs", &parts.join("root.erofs"), Metadata::len),
        ours("initrd", &parts.join("initrd.zst"), Metadata::len)
            .beside(beside(&|stock| look(&stock.initrd()?, Metadata::len))),
    ])
}

fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks() * BLOCK
}

fn look(path: &Path, size: fn(&Metadata) -> u64) -> Result<Side> {
    let metadata = fs::metadata(path).map_err(Error::file("reading", path))?;
    Ok(Side::Seen(Samples::bytes(size(&metadata))))
}
