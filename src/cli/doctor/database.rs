//! Checks the database and its schema.

use std::path::Path;
use std::time::Instant;

use crate::cli::adapters;
use crate::config::Config;
use crate::db::Db;
use crate::storage::probe::Check;
use crate::telemetry::chain;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let url = config.database.url.expose();
    // Opening it would create it.
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
                tracing::warn!(error = &error as &dyn std::error::Error, "did not close");
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
    let all = match db.migrations().await {
        Ok(all) => all,
        Err(error) => {
            let mend = "Check that it is the right database, and not that of a newer version.";
            return Check::fail("migrations", chain(&error), mend);
        }
    };
    let pending: Vec<_> =
        all.iter().filter(|(_, applied)| !applied).map(|(name, _)| name.as_str()).collect();
    if pending.is_empty() {
        return Check::pass("migrations", format!("all {} are applied", all.len()));
    }
    let saw = format!("{} of {} are pending: {}", pending.len(), all.len(), pending.join(", "));
    Check::fail("migrations", saw, "Apply them: `upload-coordinator migrate up`.")
}

fn sqlite_file(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    rest.trim_start_matches("//").split('?').next().map(Path::new)
}
