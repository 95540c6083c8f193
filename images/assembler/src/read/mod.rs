//! Reads what an image is made from: the list of packages, and each Debian package.

mod ar;
mod control;
mod deb;
mod packages;

pub use control::Paragraph;
pub use deb::{Item, Package, Shape};
pub use packages::load_packages;
