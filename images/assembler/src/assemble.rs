//! The assembly line of one machine image, as a recipe.

use std::path::Path;

use ballast_contract::Spec;

use crate::Inputs;
use crate::error::AssembleError;
use crate::merge::merge;
use crate::passes::{self, Context};
use crate::progress::Progress;
use crate::read::load_packages;
use crate::scripts;
use crate::tree::{Node, Tree};
use crate::write::cpio::Cpio;
use crate::write::disk::{Slot, SlotKind, save_disk};
use crate::write::erofs::{save_erofs, uuid_from};
use crate::write::esp::save_esp;
use crate::write::manifest::{Contents, Output, write_manifest, write_sbom};
use crate::write::transport::{save_qcow2, save_zstd, zstd};
use crate::write::uki::{Uki, write_uki};
use crate::write::verity::save_verity;
use crate::write::{load, save};

const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const BOOT_LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// The entry with three tries (systemd's boot assessment), and no menu: a machine has no one to ask.
const LOADER_CONF: &str = "timeout 0\neditor no\n";
const TRIES: u32 = 3;
/// zstd's level for what travels: beyond it, seconds grow faster than bytes shrink.
const TRANSPORT_LEVEL: i32 = 6;
const NETBOOT_LEVEL: i32 = 3;
const INITRD_LEVEL: i32 = 12;

/// Makes one image.
///
/// # Errors
/// Whatever stops the line; nothing then stands complete in `out`.
pub fn image(inputs: &Inputs) -> Result<(), AssembleError> {
    let mut progress = Progress::start();
    let spec = load_spec(&inputs.spec)?;
    let out = |name: &str| inputs.out.join(name);
    let parts = |name: &str| inputs.parts.join(name);
    for dir in [&inputs.out, &inputs.parts] {
        std::fs::create_dir_all(dir)
            .map_err(|source| AssembleError::Write { path: dir.clone(), source })?;
    }

    let packages = load_packages(&inputs.packages)?;
    progress.done(&format!("read {} packages", packages.len()));
    let epoch = packages.iter().map(|package| package.newest).max().unwrap_or_default();
    scripts::check(&packages, &spec.image.scripts_without_effect)?;
    let mut tree = merge(&packages)?;
    progress.done("merged");
    let boot = BootParts::take(&tree, &spec)?;
    let context = Context {
        spec: &spec,
        packages: &packages,
        epoch,
        agent: &inputs.agent,
        scratch: &inputs.parts,
    };
    passes::apply(&mut tree, &context, |name| progress.done(&format!("pass: {name}")))?;

    let digest = save_erofs(&tree, epoch, &parts("root.erofs"))?;
    progress.done("EROFS");
    let root_hash = save_verity(&parts("root.erofs"), &digest, epoch, &parts("root.verity"))?;
    progress.done("verity");

    let command_line = format!("{} roothash={root_hash}", spec.image.kernel.command_line.join(" "));
    let init = load(&inputs.init)?;
    let initrd = zstd(&write_initrd(&init, &boot.modules, &[])?, INITRD_LEVEL)?;
    progress.done("initrd");
    let os_release = tree.text("etc/os-release").unwrap_or_default();
    let uki = |initrd: &[u8]| {
        write_uki(Uki {
            stub: &boot.stub,
            os_release: &os_release,
            release: &boot.release,
            command_line: &command_line,
            kernel: &boot.kernel,
            initrd,
        })
    };
    let entry = format!("EFI/Linux/{}_{}+{TRIES}.efi", spec.image.name, spec.image.version);
    let files: [(&str, &[u8]); 3] = [
        ("EFI/BOOT/BOOTX64.EFI", &boot.loader),
        ("loader/loader.conf", LOADER_CONF.as_bytes()),
        (&entry, &uki(&initrd)?),
    ];
    let volume_id = uuid_from(&digest, "esp").as_fields().0;
    save_esp(
        &files,
        spec.image.partitions.esp_bytes,
        volume_id,
        epoch,
        &inputs.parts,
        &parts("esp.vfat"),
    )?;
    progress.done("UKI, ESP");

    let slots = [
        Slot {
            kind: SlotKind::Esp,
            label: "esp".to_owned(),
            uuid: uuid_from(&digest, "esp"),
            size: spec.image.partitions.esp_bytes,
            content: parts("esp.vfat"),
        },
        Slot {
            kind: SlotKind::Root,
            label: format!("{}_{}", spec.image.name, spec.image.version),
            uuid: root_hash.data_partition(),
            size: spec.image.partitions.slot_bytes,
            content: parts("root.erofs"),
        },
        Slot {
            kind: SlotKind::RootVerity,
            label: format!("{}_{}", spec.image.name, spec.image.version),
            uuid: root_hash.hash_partition(),
            size: spec.image.partitions.hash_bytes,
            content: parts("root.verity"),
        },
    ];
    save_disk(&slots, uuid_from(&digest, "disk"), &out("disk.raw"))?;
    progress.done("disk.raw");
    let raw = out("disk.raw");
    let netboot = std::thread::scope(|scope| {
        let (raw, packed, virtual_disk) = (&raw, out("disk.raw.zst"), out("disk.qcow2"));
        let travel = scope.spawn(move || save_zstd(raw, &packed, TRANSPORT_LEVEL));
        let convert = scope.spawn(move || save_qcow2(raw, &virtual_disk, epoch));
        let root = [
            ("image/root.erofs", load(&parts("root.erofs"))?),
            ("image/root.verity", load(&parts("root.verity"))?),
        ];
        let netboot = zstd(&write_initrd(&init, &boot.modules, &root)?, NETBOOT_LEVEL)?;
        let netboot = uki(&netboot)?;
        save(&out("netboot.efi"), &netboot)?;
        for done in [travel.join(), convert.join()] {
            done.unwrap_or_else(|_| Err(panicked()))?;
        }
        Ok::<_, AssembleError>(netboot)
    })?;
    progress.done("disk.raw.zst, disk.qcow2, netboot.efi");

    let contents = Contents {
        name: &spec.image.name,
        version: &spec.image.version,
        tree: digest,
        root_hash,
        kernel: &boot.release,
        command_line: &command_line,
        epoch,
        packages: &packages,
        outputs: vec![
            Output::of("disk.qcow2", &load(&out("disk.qcow2"))?),
            Output::of("disk.raw.zst", &load(&out("disk.raw.zst"))?),
            Output::of("netboot.efi", &netboot),
        ],
    };
    save(&out("manifest.json"), &write_manifest(&contents)?)?;
    save(&out("sbom.spdx.json"), &write_sbom(&contents)?)?;
    progress.done("manifest, SBOM");

    save(&parts("vmlinuz"), &boot.kernel)?;
    save(&parts("initrd.zst"), &initrd)?;
    save(&parts("cmdline"), command_line.as_bytes())?;
    save(&parts("roothash"), root_hash.to_string().as_bytes())?;
    progress.finish(&format!("{} {}", spec.image.name, spec.image.version));
    Ok(())
}

fn panicked() -> AssembleError {
    AssembleError::Format { format: "disk", reason: "a writer stopped halfway".to_owned() }
}

fn load_spec(path: &Path) -> Result<Spec, AssembleError> {
    read_spec(path, &load(path)?)
}

fn read_spec(path: &Path, bytes: &[u8]) -> Result<Spec, AssembleError> {
    let spec: Spec = serde_json::from_slice(bytes).map_err(|source| AssembleError::Json {
        path: path.to_owned(),
        what: "a spec",
        source,
    })?;
    spec.validate().map_err(|source| AssembleError::Spec { path: path.to_owned(), source })?;
    Ok(spec)
}

/// What the boot needs and the root does not keep.
struct BootParts {
    release: String,
    kernel: Vec<u8>,
    modules: Vec<(String, Vec<u8>)>,
    stub: Vec<u8>,
    loader: Vec<u8>,
}

impl BootParts {
    fn take(tree: &Tree, spec: &Spec) -> Result<Self, AssembleError> {
        let bytes = |path: &str| {
            tree.get(path).and_then(Node::bytes).map(<[u8]>::to_vec).ok_or_else(|| {
                AssembleError::Place {
                    path: path.to_owned(),
                    reason: "no package brings it".to_owned(),
                }
            })
        };
        let release = passes::release(tree)?;
        Ok(Self {
            kernel: bytes(&format!("boot/vmlinuz-{release}"))?,
            modules: passes::initrd_modules(tree, &spec.image.kernel.initrd_modules)?,
            stub: bytes(STUB)?,
            loader: bytes(BOOT_LOADER)?,
            release,
        })
    }
}

fn write_initrd(
    init: &[u8],
    modules: &[(String, Vec<u8>)],
    carried: &[(&str, Vec<u8>)],
) -> Result<Vec<u8>, AssembleError> {
    let mut cpio = Cpio::default();
    for dir in ["dev", "image", "modules", "proc", "root", "run", "sys"] {
        cpio.dir(dir)?;
    }
    cpio.file("init", 0o755, init)?;
    let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    cpio.file("modules/order", 0o644, order.as_bytes())?;
    for (name, bytes) in modules {
        cpio.file(&format!("modules/{name}"), 0o644, bytes)?;
    }
    for (path, bytes) in carried {
        cpio.file(path, 0o644, bytes)?;
    }
    cpio.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_field_of_a_spec_is_bad_input() {
        let error =
            read_spec(Path::new("spec.json"), br#"{"version": 1, "colour": "blue"}"#).unwrap_err();
        assert!(error.is_bad_input());
        assert_eq!(error.to_string(), "reading spec.json as a spec");
    }

    proptest! {
        #[test]
        fn no_spec_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".*") {
            let _ = read_spec(Path::new("x"), &bytes);
            let _ = read_spec(Path::new("x"), format!(r#"{{"version": 1, "image": {{"name": "{text}"}}}}"#).as_bytes());
        }
    }
}
