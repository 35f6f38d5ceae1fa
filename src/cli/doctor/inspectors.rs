//! Checks that the inspectors respond, and that the virus scanner scans files of the configured
//! size.

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::timeout;

use crate::cli::adapters;
use crate::config::{Config, ConfigSize, InspectorConfig, InspectorKind};
use crate::domain::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::inspection::Fallback;
use crate::net::clamd::{Clamd, Scan, ScanError};
use crate::storage::probe::Check;
use crate::telemetry::chain;

/// The age above which virus signatures are reported as old.
const MAX_SIGNATURE_AGE: TimeDelta = TimeDelta::days(7);

/// The test file that every virus scanner reports. It is written backwards, so that no scanner
/// reports this program.
const EICAR_BACKWARDS: &str =
    "*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\\4[PA@%P!O5X";

/// The block size of tar archives.
const BLOCK: usize = 512;

/// The size of a tar archive of two files, without the content of the first file.
const ARCHIVE: u64 = 5 * BLOCK as u64;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let used: BTreeSet<&String> =
        config.policies.values().flat_map(|policy| &policy.inspect).collect();
    let mut checks = Vec::new();
    for name in used {
        let Some(inspector) = config.inspectors.get(name) else { continue };
        match inspector.kind {
            InspectorKind::Clamd => checks.extend(clamd(name, inspector).await),
            InspectorKind::Http => checks.extend(http(config, name, inspector).await),
            InspectorKind::Media => continue,
        }
        checks.extend(sizes(config, name, inspector));
    }
    checks
}

fn eicar() -> Vec<u8> {
    EICAR_BACKWARDS.bytes().rev().collect()
}

async fn clamd(name: &str, inspector: &InspectorConfig) -> Vec<Check> {
    let Some(address) = inspector.clamd_address() else { return Vec::new() };
    let clamd = Clamd::new(address);
    let version = match timeout(inspector.timeout.get(), clamd.version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return vec![unreachable(name, chain(&error))],
        Err(_) => return vec![unreachable(name, "no reply in time".to_owned())],
    };
    let now = SystemClock.now().naive_utc();
    let age = version.signatures_of.map(|at| now - at);
    let engine = &version.engine;
    let mut checks = vec![match age {
        Some(age) if age <= MAX_SIGNATURE_AGE => Check::pass(
            name.to_owned(),
            format!("{engine}, signatures are {} days old", age.num_days()),
        ),
        Some(age) => Check::warn(
            name.to_owned(),
            format!("{engine}, signatures are {} days old", age.num_days()),
            "Have freshclam update the signatures daily.",
        ),
        None => Check::warn(
            name.to_owned(),
            format!("{engine}, without the official signatures"),
            "Have freshclam fetch the signatures.",
        ),
    }];
    let file = stream::iter([Ok::<_, Infallible>(Bytes::from(eicar()))]);
    checks.push(finds(name, "eicar", scan(&clamd, inspector, file).await, || {
        "Load signatures: clamd did not find the EICAR test file.".to_owned()
    }));
    let size = inspector.max_size();
    if size > ARCHIVE {
        let size_text = ConfigSize::from_bytes(size);
        let found = scan(&clamd, inspector, archive(size)).await;
        checks.push(finds(name, "size", found, || {
            format!(
                "Raise StreamMaxLength, MaxFileSize and MaxScanSize of clamd, or lower \
                 inspectors.{name}.max_size, which is {size_text}: clamd reports larger files as clean."
            )
        }));
    }
    checks
}

fn unreachable(name: &str, saw: String) -> Check {
    let mend = format!("Start clamd, and check inspectors.{name}.address.");
    Check::fail(name.to_owned(), saw, &mend)
}

async fn scan(
    clamd: &Clamd,
    inspector: &InspectorConfig,
    file: impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin,
) -> Result<Scan, String> {
    match timeout(inspector.timeout.get(), clamd.scan(file)).await {
        Ok(Ok(scan)) => Ok(scan),
        Ok(Err(ScanError::Clamd(error))) => Err(chain(&error)),
        Ok(Err(ScanError::File(never))) => match never {},
        Err(_) => Err(format!("no verdict within {}", inspector.timeout)),
    }
}

fn finds(
    name: &str,
    what: &str,
    scanned: Result<Scan, String>,
    mend: impl FnOnce() -> String,
) -> Check {
    let check = format!("{name}: {what}");
    let file = match what {
        "eicar" => "the EICAR test file",
        _ => "the EICAR test file in an archive of max_size",
    };
    match scanned {
        Ok(Scan::Found(signature)) => Check::pass(check, format!("finds {file} ({signature})")),
        Ok(Scan::Clean) => Check::fail(check, format!("says that {file} is clean"), &mend()),
        Ok(Scan::NotScanned(why)) => {
            Check::fail(check, format!("does not scan {file} ({why})"), &mend())
        }
        Err(error) => Check::fail(check, format!("{file}: {error}"), &mend()),
    }
}

/// A tar archive of this size whose last file is the EICAR test file. clamd finds that file only if
/// it accepts and scans files of this size.
fn archive(size: u64) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin {
    let block = BLOCK as u64;
    let filler = (size - ARCHIVE) / block * block;
    let test = eicar();
    let mut last = header("eicar.com", test.len() as u64).to_vec();
    last.extend(test);
    // Zeros up to the end of the block, and the two empty blocks that end the archive.
    last.resize(2 * BLOCK + 2 * BLOCK, 0);
    let first = Bytes::copy_from_slice(&header("filler", filler));
    let zeros = Bytes::from_static(&[0; BLOCK]);
    let blocks = usize::try_from(filler / block).unwrap_or(usize::MAX);
    let filler = stream::repeat(zeros).take(blocks);
    let whole = stream::iter([first]).chain(filler).chain(stream::iter([Bytes::from(last)]));
    whole.map(Ok)
}

/// The header of a file in a tar archive.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    header[148..156].copy_from_slice(sum.as_bytes());
    header
}

async fn http(config: &Config, name: &str, inspector: &InspectorConfig) -> Option<Check> {
    let client = adapters::webhook_client(config);
    Some(match client.head(&inspector.url()?).await {
        // The inspector may refuse HEAD. Any response shows that it can be reached.
        Ok(status) => Check::pass(name.to_owned(), format!("responds (HTTP {status} to HEAD)")),
        Err(error) => {
            let mend =
                format!("Check inspectors.{name}.url, and that it can be reached from here.");
            Check::fail(name.to_owned(), chain(&error), &mend)
        }
    })
}

/// Reports policies whose files may be too large for an inspector. Such files are held.
fn sizes(config: &Config, name: &str, inspector: &InspectorConfig) -> Vec<Check> {
    let most = inspector.max_size();
    let too_large = config.policies.iter().filter(|(_, policy)| {
        let inspected = policy.inspect.iter().any(|inspector| inspector == name);
        inspected && policy.max_size.bytes() > most && inspector.on_unscannable == Fallback::Hold
    });
    too_large
        .map(|(policy_name, policy)| {
            let limit = ConfigSize::from_bytes(most);
            let allowed = policy.max_size;
            Check::warn(
                format!("{name}: max_size"),
                format!("files of {policy_name} may have {allowed}; those over {limit} are held"),
                &format!("Lower policies.{policy_name}.max_size, raise inspectors.{name}.max_size, or set on_unscannable."),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_archive_has_the_requested_size() {
        for size in [ARCHIVE + 1, 10_000, 1 << 20] {
            let chunks: Vec<Bytes> = archive(size).map(|bytes| bytes.unwrap()).collect().await;
            let length: u64 = chunks.iter().map(|bytes| bytes.len() as u64).sum();
            assert!(length <= size && length + (BLOCK as u64) > size, "{length} of {size}");
            assert!(length.is_multiple_of(BLOCK as u64));
        }
        assert_eq!(eicar().len(), 68);
    }
}
