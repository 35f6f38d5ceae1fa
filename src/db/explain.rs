//! How the database goes about a statement, in its own words.

use sea_orm::{ConnectionTrait as _, DbBackend, QueryTrait as _, Statement};

use super::tracks::{TrackFilter, Tracks};
use super::uploads::{UploadFilter, Uploads};
use super::{Db, Result};
use crate::domain::Owner;

impl Uploads<'_> {
    /// The plan of a list of uploads, line by line.
    #[doc(hidden)]
    pub async fn explain_list(self, owner: &Owner, filter: &UploadFilter) -> Result<Vec<String>> {
        self.0.explain(filter.query(owner).build(self.0.read.get_database_backend())).await
    }
}

impl Tracks<'_> {
    /// The plan of a list of tracks, line by line.
    #[doc(hidden)]
    pub async fn explain_list(self, owner: &Owner, filter: &TrackFilter) -> Result<Vec<String>> {
        let narrow = self.is_narrow(owner, filter).await?;
        self.0.explain(filter.query(owner, narrow).build(self.0.read.get_database_backend())).await
    }
}

impl Db {
    /// The plan of any statement.
    pub(super) async fn explain(&self, mut statement: Statement) -> Result<Vec<String>> {
        let (verb, column) = match self.read.get_database_backend() {
            DbBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
            _ => ("EXPLAIN QUERY PLAN", "detail"),
        };
        statement.sql = format!("{verb} {}", statement.sql);
        let rows = self.read.query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get("", column)).collect::<Result<_, _>>()?)
    }
}
