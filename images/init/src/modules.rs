//! Inserts the kernel modules the assembler put into the initrd, in the order it worked out.

use std::fs::File;

use rustix::io::Errno;

use crate::error::InitError;

/// One module per line, dependencies first; paths below this directory.
const DIR: &str = "/modules";
const ORDER: &str = "/modules/order";

/// Inserts every module. A module for hardware that is not here is no failure; one that the kernel refuses is.
///
/// # Errors
/// The first module that can't be read or inserted.
pub fn insert_all() -> Result<(), InitError> {
    let order = std::fs::read_to_string(ORDER).map_err(|e| InitError::Read(ORDER.into(), e))?;
    for name in order.lines() {
        let path = format!("{DIR}/{name}");
        let file = File::open(&path).map_err(|e| InitError::Read(path.into(), e))?;
        match rustix::system::finit_module(&file, c"", 0) {
            // Already there, or for hardware that this machine does not have.
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(e) => return Err(InitError::Module(name.to_owned(), e.into())),
        }
    }
    Ok(())
}
