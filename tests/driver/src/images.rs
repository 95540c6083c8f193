//! The images machines are made from, by role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cluster::CONSUL_SERVER;
use crate::error::{Error, Result};

/// A directory, and the role it is for: `ROLE=DIR`, or `DIR` alone for a Consul server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRole {
    role: String,
    dir: PathBuf,
}

impl FromStr for OfRole {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let is_role = |word: &str| {
            !word.is_empty() && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        };
        let (role, dir) = match text.split_once('=') {
            Some((role, dir)) if is_role(role) => (role, dir),
            _ => (CONSUL_SERVER, text),
        };
        if dir.is_empty() {
            return Err(format!("no directory for role {role}"));
        }
        Ok(Self { role: role.to_owned(), dir: PathBuf::from(dir) })
    }
}

/// Images by role.
#[derive(Debug, Clone, Default)]
pub struct Images {
    images: BTreeMap<String, Image>,
}

/// One role's image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    role: String,
    shipped: Option<PathBuf>,
    parts: Option<PathBuf>,
}

impl Images {
    /// From where images as shipped (`disk.raw`, `netboot.efi`) and their parts (`vmlinuz`, `initrd.zst`, `cmdline`,
    /// `root.erofs`) are.
    ///
    /// # Errors
    /// When there is no directory to start from.
    pub fn new(shipped: &[OfRole], parts: &[OfRole]) -> Result<Self> {
        let mut all = Self::default();
        for OfRole { role, dir } in shipped {
            all.entry(role).shipped = Some(whole(dir)?);
        }
        for OfRole { role, dir } in parts {
            all.entry(role).parts = Some(whole(dir)?);
        }
        Ok(all)
    }

    fn entry(&mut self, role: &str) -> &mut Image {
        let fresh = || Image { role: role.to_owned(), ..Image::default() };
        self.images.entry(role.to_owned()).or_insert_with(fresh)
    }

    /// A role's image.
    ///
    /// # Errors
    /// When none was given.
    pub fn of(&self, role: &str) -> Result<&Image> {
        self.images.get(role).ok_or_else(|| {
            Error::Missing(format!(
                "an image for {role} is needed: give it with --image {role}=DIR"
            ))
        })
    }

    /// Whether a role has an image.
    pub fn has(&self, role: &str) -> bool {
        self.images.contains_key(role)
    }

    /// Any image: all have a kernel.
    ///
    /// # Errors
    /// When none was given.
    pub fn any(&self) -> Result<&Image> {
        self.images.values().next().map_or_else(|| self.of(CONSUL_SERVER), Ok)
    }
}

impl Image {
    /// The directory that is shipped.
    ///
    /// # Errors
    /// When it was not given.
    pub fn shipped(&self) -> Result<&Path> {
        given(&self.shipped, "--image", &self.role, "an image")
    }

    /// Its disk.
    ///
    /// # Errors
    /// When it was not given.
    pub fn disk(&self) -> Result<PathBuf> {
        Ok(self.shipped()?.join("disk.raw"))
    }

    /// The directory of its parts.
    ///
    /// # Errors
    /// When it was not given.
    pub fn parts(&self) -> Result<&Path> {
        given(&self.parts, "--parts", &self.role, "the parts of an image")
    }
}

fn given<'a>(dir: &'a Option<PathBuf>, option: &str, role: &str, what: &str) -> Result<&'a Path> {
    dir.as_deref().ok_or_else(|| {
        Error::Missing(format!("{what} for {role} is needed: give it with {option} {role}=DIR"))
    })
}

fn whole(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(Error::file("finding", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> OfRole {
        text.parse().unwrap()
    }

    #[test]
    fn a_directory_is_a_consul_servers_unless_a_role_is_named() {
        assert_eq!(read("redis=/images/r").role, "redis");
        assert_eq!(read("/images/c").role, CONSUL_SERVER);
        // No role is named so.
        assert_eq!(read("/images/a=b").dir, Path::new("/images/a=b"));
        assert!("redis=".parse::<OfRole>().is_err());
    }

    #[test]
    fn a_role_without_an_image_is_missed_by_name() {
        let images = Images::new(&[read("/c"), read("redis=/r")], &[read("redis=/p")]).unwrap();
        assert_eq!(images.of("redis").unwrap().parts().unwrap(), Path::new("/p"));
        let error = images.of("postgres").unwrap_err().to_string();
        assert!(error.contains("--image postgres=DIR"), "{error}");
        let error = images.of(CONSUL_SERVER).unwrap().parts().unwrap_err().to_string();
        assert!(error.contains("--parts consul-server=DIR"), "{error}");
    }
}
