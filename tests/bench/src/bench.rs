//! One run: what it was given, the directory it works in, and what several measurements share.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use ballast_contract::Spec;
use ballast_machines::error::chain;
use ballast_machines::qemu::Accel;
use ballast_machines::workspace::Workspace;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::stock::{Built, Sources, Stock};

/// One run.
pub struct Bench {
    /// What it was given.
    pub options: Options,
    workspace: Workspace,
    /// The stock side is prepared once, and the reason kept when it cannot be.
    stock: OnceCell<Result<Stock>>,
    accel: OnceCell<Result<(Accel, String)>>,
}

/// One package of a list as the assembler takes it.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its .deb.
    pub path: PathBuf,
}

impl Bench {
    /// Takes a directory, which goes away with the run.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(options: Options) -> Result<Self> {
        let workspace = Workspace::new()?;
        Ok(Self { options, workspace, stock: OnceCell::new(), accel: OnceCell::new() })
    }

    /// A new directory of this run.
    ///
    /// # Errors
    /// When it cannot be made, or is there already.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.workspace.dir().join(name);
        fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
        Ok(dir)
    }

    /// How machines run instructions here, and why: probed once.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn accel(&self) -> Result<(Accel, String)> {
        let probe = || self.options.given.accel().map_err(Error::from);
        match self.accel.get_or_init(probe) {
            Ok((accel, why)) => Ok((*accel, why.clone())),
            Err(error) => Err(again(error)),
        }
    }

    /// The spec of the image that is measured.
    ///
    /// # Errors
    /// When it is not given or does not parse.
    pub fn spec(&self) -> Result<Spec> {
        load(given(&self.options.spec, "a spec", "--spec")?)
    }

    /// The stock side, prepared and built at least once.
    ///
    /// # Errors
    /// Why there is none.
    pub fn stock(&self) -> Result<&Stock> {
        self.stock.get_or_init(|| self.prepare_stock()).as_ref().map_err(again)
    }

    fn prepare_stock(&self) -> Result<Stock> {
        let tools = given(&self.options.stock_tools, "a tree with mmdebstrap", "--stock-tools")?;
        let list = given(&self.options.stock_packages, "stock packages", "--stock-packages")?;
        let debs: Vec<Package> = load(list)?;
        let spec = self.spec()?;
        let sources = Sources { tools, debs: &debs, packages: &spec.image.packages };
        progress("preparing the stock side");
        let stock = Stock::prepare(&sources, self.dir("stock")?)?;
        let Built { tree, file_system } = stock.build()?;
        progress(&format!(
            "stock image: tree {:.1?}, file system {:.1?}",
            tree.wall, file_system.wall
        ));
        Ok(stock)
    }
}

/// The error of something that was tried once, for each who asks for it.
fn again(error: &Error) -> Error {
    match error {
        error if error.is_interrupt() => Error::Interrupted,
        Error::Lacking(reason) => Error::Lacking(reason.clone()),
        error => Error::Shared(chain(error)),
    }
}

/// A path that must have been given.
///
/// # Errors
/// [`Error::Lacking`] otherwise, with the option that gives it.
pub fn given<'a>(path: &'a Option<PathBuf>, what: &str, option: &str) -> Result<&'a Path> {
    path.as_deref().ok_or_else(|| Error::Lacking(format!("{what} is not given ({option})")))
}

/// Reads a JSON document.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(Error::file("reading", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Document { path: path.into(), source })
}

/// Says what is going on, where it does not mix with the table.
pub fn progress(sentence: &str) {
    eprintln!("bench: {sentence}");
}
