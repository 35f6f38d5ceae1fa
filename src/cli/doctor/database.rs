//! Checks the database and its schema.

use std::path::Path;
use std::time::Instant;

use crate::cli::adapters;
use crate::config::Config;
use crate::db::{Db, DbError, Schema};
use crate::storage::probe::Check;
use crate::telemetry::chain;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let url = config.database.url.expose();
    // If the file does not exist, opening the database would create it.
    if let Some(file) = sqlite_file(url).filter(|file| !file.exists()) {
        let saw = format!("there is no file {}", file.display());
        let mend = "Correct database.url, or create it: `upload-coordinator migrate up`.";
        return vec![Check::fail("database", saw, mend)];
    }
    let began = Instant::now();
    let opened = async {
        let db = adapters::database(config).await?;
        db.ping().await?;
        anyhow::Ok(db)
    };
    match opened.await {
        Ok(db) => {
            let saw = format!("responds within {} ms", began.elapsed().as_millis().max(1));
            let found = vec![Check::pass("database", saw), migrations(&db).await];
            if let Err(error) = db.close().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database did not close"
                );
            }
            found
        }
        Err(error) => {
            let mend = "Check database.url, that the server is up, and that it accepts this user.";
            vec![Check::fail("database", format!("{error:#}"), mend)]
        }
    }
}

async fn migrations(db: &Db) -> Check {
    const NAME: &str = "migrations";
    let all = async { Ok::<_, DbError>((db.schema().await?, db.migrations().await?.len())) };
    match all.await {
        Ok((Schema::Usable { newer: None }, all)) => {
            Check::pass(NAME, format!("all {all} are applied"))
        }
        Ok((Schema::Usable { newer: Some(level) }, _)) => Check::pass(
            NAME,
            format!("a newer version has migrated the database (level {level}); this one may run"),
        ),
        Ok((Schema::Pending(names), all)) => {
            let saw = format!("{} of {all} are pending: {}", names.len(), names.join(", "));
            Check::fail(NAME, saw, "Apply them: `upload-coordinator migrate up`.")
        }
        Ok((Schema::TooNew { min_level }, _)) => Check::fail(
            NAME,
            format!("only versions of schema level {min_level} or higher may run"),
            "Run the newer version that has migrated the database.",
        ),
        Err(error) => {
            let mend = "Check that database.url names the database of this service.";
            Check::fail(NAME, chain(&error), mend)
        }
    }
}

pub(super) fn sqlite_file(url: &str) -> Option<&Path> {
    let remaining = url.strip_prefix("sqlite:")?;
    remaining.trim_start_matches("//").split('?').next().map(Path::new)
}
