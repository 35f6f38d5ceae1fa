//! The lock on the data folder of `dev`: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

/// The lock file in the data folder. It holds the id of the process that has the lock.
const FILE: &str = "dev.lock";

/// The lock, which `dev` holds while it uses its data folder. The operating system releases the
/// lock when the process ends, even after `kill -9`. The lock file remains.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "an open file holds the lock")] File);

impl DataLock {
    /// Creates the folder if it is missing, and locks it. Fails if another process has the lock.
    pub fn acquire(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let context = || format!("--data: can't lock {}", path.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                file.read_to_string(&mut process).with_context(context)?;
                bail!(
                    "--data: the folder {} is in use by another `dev` (process {}): stop it, or \
                     pass another folder",
                    folder.display(),
                    process.trim(),
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        file.set_len(0).with_context(context)?;
        writeln!(file, "{}", std::process::id()).with_context(context)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_the_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = DataLock::acquire(&data).unwrap();
        let error = DataLock::acquire(&data).unwrap_err().to_string();
        assert!(error.contains(&data.display().to_string()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataLock::acquire(&data).unwrap();
    }

    #[test]
    fn a_lock_file_that_a_killed_process_left_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "999999999999\n").unwrap();
        DataLock::acquire(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
