//! Overrides of a run's safety limits. Each override explains what it allows. On a terminal, the
//! operator confirms it by typing the number of uploads that it affects.

use std::io::{BufRead, Write};

use anyhow::bail;

use crate::app::App;
use crate::domain::run::RunRequest;
use crate::domain::{Location, Owner, Policy, PolicyName};

/// An override that the operator must confirm.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Override {
    /// What the run will do, in one or more sentences.
    text: String,
    /// The number that the operator types.
    count: u64,
}

/// The overrides of a request.
///
/// # Errors
/// If the database fails.
pub(super) async fn overrides_of(app: &App, request: &RunRequest) -> anyhow::Result<Vec<Override>> {
    let mut overrides = Vec::new();
    if request.accept_damage > 0 {
        overrides.push(accept_damage(request.accept_damage, request.dry_run));
    }
    if request.adopt_bucket {
        let selected = |policy: &&Policy| request.policy.as_ref().is_none_or(|p| *p == policy.name);
        for policy in app.policies.values().filter(selected) {
            let verified = app.db.scan().count_verified(&policy.name).await?;
            let mut locations = app.locations_of(policy).await?;
            locations.retain(|location| app.store_at(location).is_ok());
            for location in locations {
                overrides.push(adopt_bucket(&location, verified, request.dry_run));
            }
        }
    }
    if let Some(owner) = &request.adopt {
        let orphans = app.db.runs().count_orphans().await?;
        let selected = |name: &PolicyName| request.policy.as_ref().is_none_or(|p| p == name);
        let count = orphans.iter().filter(|(name, _)| selected(name)).map(|(_, count)| count).sum();
        overrides.push(adopt(owner, count, request.dry_run));
    }
    Ok(overrides)
}

fn adopt(owner: &Owner, orphans: u64, dry_run: bool) -> Override {
    let makes = if dry_run { "would make" } else { "makes" };
    let owner = owner.as_str();
    let text = format!(
        "--adopt: this run {makes} uploads for all objects that have no row and pass the rules of \
         their policy. Their owner is `{owner}`. The last audit saw {orphans}."
    );
    Override { text, count: orphans }
}

fn accept_damage(count: u64, dry_run: bool) -> Override {
    let does = if dry_run { "reports" } else { "does" };
    let text = format!(
        "--accept-damage {count}: this run {does} up to {count} changes per policy that no owner \
         asked for: verified uploads that become missing or rejected, and deletions of objects \
         that were verified once."
    );
    Override { text, count }
}

fn adopt_bucket(location: &Location, verified: u64, dry_run: bool) -> Override {
    let writes = if dry_run { "would write" } else { "writes" };
    let Location { policy: name, bucket, prefix, .. } = location;
    let marker = prefix.marker();
    let text = format!(
        "--adopt-bucket: if the marker `{marker}` is not in bucket `{bucket}`, this run {writes} \
         it and uses the bucket for policy `{name}`. From then on, an upload whose object is absent \
         is missing. {verified} uploads of this policy are verified."
    );
    Override { text, count: verified }
}

/// Prints what the overrides allow. With an `input`, the operator must type the number of each
/// override.
///
/// # Errors
/// If a number differs, or if reading or writing fails.
pub(super) fn confirm(
    overrides: &[Override],
    mut input: Option<impl BufRead>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    for Override { text, count } in overrides {
        writeln!(output, "{text}")?;
        let Some(input) = &mut input else { continue };
        write!(output, "Type {count} to continue: ")?;
        output.flush()?;
        let mut line = String::new();
        input.read_line(&mut line)?;
        if line.trim() != count.to_string() {
            bail!("the input was not {count}: nothing was done");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LocationNumber, Prefix};

    fn both() -> [Override; 2] {
        let location = Location {
            policy: PolicyName::default(),
            number: LocationNumber(0),
            store: "default".into(),
            bucket: "files".into(),
            prefix: Prefix::parse("tracks/").unwrap(),
        };
        [accept_damage(150, false), adopt_bucket(&location, 7, false)]
    }

    fn confirm_with(input: Option<&str>) -> (anyhow::Result<()>, String) {
        let mut output = Vec::new();
        let done = confirm(&both(), input.map(str::as_bytes), &mut output);
        (done, String::from_utf8(output).unwrap())
    }

    #[test]
    fn each_override_says_what_it_allows() {
        let (done, printed) = confirm_with(None);
        done.unwrap();
        assert!(printed.contains("up to 150 changes per policy that no owner asked for"));
        assert!(
            printed.contains("bucket `files`")
                && printed.contains("7 uploads of this policy are verified")
        );
        assert!(!printed.contains("Type"), "nobody is asked without a terminal");
    }

    #[test]
    fn on_a_terminal_each_number_must_be_typed() {
        assert!(confirm_with(Some("150\n7\n")).0.is_ok());
        for wrong in ["", "\n", "y\n", "150\n", "150\n8\n", "7\n150\n"] {
            let (done, _) = confirm_with(Some(wrong));
            assert!(done.unwrap_err().to_string().contains("nothing was done"), "{wrong:?}");
        }
    }
}
