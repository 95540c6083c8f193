//! What is known about maintainer scripts: helpers that generate them, triggers, and scripts that were read.

/// Helpers whose generated blocks a pass covers, or that do nothing on a first installation.
pub const DEBHELPER: [(&str, &str); 15] = [
    ("dh_installalternatives", "pass alternatives"),
    ("dh_installcatalogs", "nothing reads SGML catalogues"),
    ("dh_installdeb", "moves and removes configuration files of earlier versions"),
    ("dh_installdebconf", "no questions are asked"),
    ("dh_installinit", "scripts in /etc/init.d are not run; pass units"),
    ("dh_installinitramfs", "the initrd is our own"),
    ("dh_installmenu", "no menus"),
    ("dh_installmodules", "pass kernel modules"),
    ("dh_installsystemd", "pass units"),
    ("dh_installsystemduser", "pass units"),
    ("dh_installsysusers", "pass accounts"),
    ("dh_installtmpfiles", "pass tmpfiles"),
    ("dh_installudev", "rules are read at boot"),
    ("dh_makeshlibs", "pass ld.so cache"),
    ("dh_python3", "pass byte code"),
];

/// Triggers packages are interested in, with what stands for their effect.
pub const TRIGGERS: [(&str, &str); 19] = [
    ("/etc/dbus-1/system.d", "no bus is running"),
    ("/lib/udev/hwdb.d", "the hardware database is left out"),
    ("/usr/lib/binfmt.d", "read at boot"),
    ("/usr/lib/shim", "the ESP is written with the image"),
    ("/usr/lib/sysctl.d", "read at boot"),
    ("/usr/lib/systemd/catalog", "messages without explanations"),
    ("/usr/lib/udev/hwdb.d", "the hardware database is left out"),
    ("/usr/lib32", "no second architecture"),
    ("/usr/libo32", "no second architecture"),
    ("/usr/libx32", "no second architecture"),
    ("/usr/share/dbus-1/system-services", "no bus is running"),
    ("/usr/share/dbus-1/system.d", "no bus is running"),
    ("/usr/share/debianutils/shells.d", "pass default files"),
    ("ldconfig", "pass ld.so cache"),
    ("libc-upgrade", "nothing is running"),
    ("systemd-boot-signed", "the ESP is written with the image"),
    ("update-ca-certificates", "pass CA bundle"),
    ("update-ca-certificates-fresh", "pass CA bundle"),
    ("update-initramfs", "the initrd is our own"),
];

/// Scripts that were read: package, script, digest of what is left of it, and what stands for its effect.
const READ: &str = include_str!("known-scripts");

/// Whether this very script was read and found covered.
pub fn covers(package: &str, script: &str, digest: &str) -> bool {
    READ.lines().filter(|line| !line.starts_with('#')).any(|line| {
        let mut words = line.split_whitespace();
        let kernel = package.starts_with("linux-image-").then_some("linux-image-*");
        words.next().is_some_and(|name| name == package || Some(name) == kernel)
            && words.next() == Some(script)
            && words.next() == Some(digest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_what_stands_for_the_effect() {
        for line in READ.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() >= 4 && words[2].len() == 16, "{line:?}");
            assert!(["preinst", "postinst"].contains(&words[1]), "{line:?}");
        }
    }
}
