//! Reads one marker, compares it with the record in the database, and maintains it. A marker
//! contains a *lap*, a random id that is replaced from time to time ([`crate::domain::marker`]).
//!
//! - The next lap is committed before it is written, so the database always knows the marker's lap.
//!   A process that finds a committed lap that is not written yet writes the same lap. So it does
//!   not matter if a write was lost or is done by two processes.
//! - The marker is read before the database. If they differ, both are read again, and only an
//!   unchanged marker counts: another process may have replaced the lap in between.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::CheckOptions;
use crate::app::{App, AppError, MAX_TRIES, Result};
use crate::db::reconcile::marker::{Instance, MarkerLocation};
use crate::domain::marker::{BucketIdentity, Lap, Marker, Mismatch, Remembered};
use crate::domain::{Location, Timestamp};
use crate::storage::{PutOptions, Store, StoreError};

/// An object that is longer is not a marker.
const MAX_MARKER_LEN: u64 = 256;

/// How long a write of a marker may take. A write that ends much later could bring back a lap
/// that was replaced, on a store that ignores `If-Match`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A marker object as it was read.
pub(super) struct Found {
    pub(super) etag: String,
    /// `None` if it can't be read.
    pub(super) marker: Option<Marker>,
}

/// The check of the marker of one location.
#[derive(Clone, Copy)]
pub(super) struct MarkerCheck<'a> {
    pub(super) app: &'a App,
    pub(super) location: &'a Location,
    pub(super) store: &'a Store,
    pub(super) options: CheckOptions,
}

impl MarkerCheck<'_> {
    pub(super) async fn run(self) -> Result<BucketIdentity> {
        // The ETag of a marker whose lap is not in the database, or `None` if the marker was
        // missing.
        let mut unknown_lap: Option<Option<String>> = None;
        for _ in 0..MAX_TRIES {
            let found = self.read().await?;
            let (instance, now) = (self.instance().await?, self.app.database_now());
            let remembered = self.remembered(now, &instance).await?;
            let etag = found.as_ref().map(|found| found.etag.clone());
            let is_unknown = unknown_lap.as_ref() == Some(&etag);
            let Some(found) = found else {
                if self.is_first(&remembered).await? {
                    if self.options.dry_run {
                        return Ok(BucketIdentity::Match);
                    }
                    self.write_first(&instance, &remembered).await?;
                } else if is_unknown {
                    return Ok(BucketIdentity::Mismatch(Mismatch::Missing));
                } else {
                    unknown_lap = Some(None);
                }
                continue;
            };
            let Some(marker) = found.marker.filter(|marker| marker.instance == instance.id) else {
                let other = found.marker.map(|marker| marker.instance);
                return Ok(BucketIdentity::Mismatch(Mismatch::Foreign(other)));
            };
            if marker.contested || remembered.contested {
                if !remembered.contested && !self.options.dry_run {
                    self.app.db.markers().contest(self.location(), now).await?;
                }
                return Ok(BucketIdentity::Mismatch(Mismatch::Contested));
            }
            if remembered.knows(marker.lap) {
                return self.maintain(&marker, &found.etag, remembered, now).await;
            }
            if !is_unknown {
                unknown_lap = Some(etag);
            } else if self.options.dry_run {
                return Ok(BucketIdentity::Mismatch(Mismatch::Contested));
            } else {
                // The other database must notice it too. The marker is read again, because the
                // other database may have written it in the meantime.
                let contested = Marker { contested: true, ..marker };
                accept_race(self.put(&contested, Some(&found.etag)).await)?;
            }
        }
        Err(AppError::Contended)
    }

    /// Whether the marker of exactly this location is in the store, whatever the store's name is.
    pub(super) async fn is_known(&self) -> Result<bool> {
        let Some(marker) = self.read().await?.and_then(|found| found.marker) else {
            return Ok(false);
        };
        let markers = self.app.db.markers();
        let instance = markers.instance(self.app.ids.uuid()).await?;
        let recorded = markers.find(self.location(), |_| true).await?;
        let is_known = |(_, remembered): (String, Remembered)| remembered.knows(marker.lap);
        Ok(marker.instance == instance.id && recorded.is_some_and(is_known))
    }

    pub(super) fn location(&self) -> MarkerLocation<'_> {
        MarkerLocation {
            store: &self.location.store,
            bucket: &self.location.bucket,
            prefix: self.location.prefix.as_str(),
        }
    }

    /// The marker object, if it exists.
    pub(super) async fn read(&self) -> Result<Option<Found>> {
        let (objects, key) = (&self.store.objects, self.location.prefix.marker());
        for _ in 0..MAX_TRIES {
            let Some(meta) = objects.head(&key).await? else { return Ok(None) };
            let etag = meta.etag;
            if meta.size > MAX_MARKER_LEN {
                return Ok(Some(Found { etag, marker: None }));
            }
            let bytes = match objects.read(&key, 0..MAX_MARKER_LEN, &etag).await {
                Ok(bytes) => bytes,
                // The marker was replaced between HEAD and GET.
                Err(StoreError::PreconditionFailed) => continue,
                Err(error) => return Err(error.into()),
            };
            // An incomplete marker would look like another database's marker.
            if bytes.len() as u64 != meta.size {
                let what =
                    format!("only {} of {} bytes of a marker were read", bytes.len(), meta.size);
                return Err(StoreError::Protocol(what).into());
            }
            let marker = std::str::from_utf8(&bytes).ok().and_then(Marker::parse);
            return Ok(Some(Found { etag, marker }));
        }
        Err(AppError::Contended)
    }

    /// This database's identity. Also records the server or file that the database is on now, and
    /// whether it was moved.
    pub(super) async fn instance(&self) -> Result<Instance> {
        let markers = self.app.db.markers();
        let instance = markers.instance(self.app.ids.uuid()).await?;
        if let Some(home) = markers.home().await
            && instance.home.as_deref() != Some(home)
            && !self.options.dry_run
        {
            let before = instance.home.as_deref();
            let recorded = markers.set_home(before, home, self.app.database_now()).await?;
            if recorded && before.is_some() {
                tracing::warn!(instance = %instance.id,
                    "the database was moved or copied since it was used last");
            }
        }
        Ok(instance)
    }

    async fn remembered(&self, now: Timestamp, instance: &Instance) -> Result<Remembered> {
        let markers = self.app.db.markers();
        let Location { bucket, prefix, .. } = self.location;
        let locations = self.app.locations.all();
        // A location keeps the name of a store that is not configured until a marker proves that
        // the store was renamed. Until then, the record is that of another bucket.
        let is_elsewhere = |name: &str| {
            let configured = self.app.stores.get(name).is_some_and(|store| store.bucket == *bucket);
            let is_known =
                |at: &Location| at.store == name && at.bucket == *bucket && at.prefix == *prefix;
            configured || locations.iter().any(|location| is_known(location))
        };
        let Some((store, mut remembered)) = markers.find(self.location(), is_elsewhere).await?
        else {
            return Ok(Remembered::default());
        };
        if self.options.dry_run {
            // The location is not recorded.
            let home = markers.home().await;
            let moved =
                instance.home.is_some() && home.is_some() && instance.home.as_deref() != home;
            remembered.moved_at = remembered.moved_at.or(moved.then_some(now));
        } else if store != self.location.store {
            markers.rename_store(self.location(), &store).await?;
        }
        Ok(remembered)
    }

    /// Whether a missing marker may be written. If this database wrote a marker before, or saw
    /// objects of this location, then the marker was lost or this is another bucket, and it may not
    /// be written.
    async fn is_first(&self, remembered: &Remembered) -> Result<bool> {
        if self.options.adopt {
            return Ok(true);
        }
        if remembered.written || remembered.contested {
            return Ok(false);
        }
        // The first marker is being written.
        if remembered.next.is_some() {
            return Ok(true);
        }
        Ok(!self.app.db.scan().has_seen_objects(self.location.into()).await?)
    }

    async fn write_first(&self, instance: &Instance, remembered: &Remembered) -> Result<()> {
        let (markers, location, new) =
            (self.app.db.markers(), self.location(), self.app.ids.uuid());
        let lap = if remembered.written || remembered.contested {
            markers.take(location, None, new).await?;
            Some(new)
        } else {
            markers.begin_first(location, new).await?
        };
        let marker = Marker { instance: instance.id, lap, contested: false };
        // If another process wrote a marker first, that marker is read and compared next.
        if lap.is_some() { accept_race(self.put(&marker, None).await) } else { Ok(()) }
    }

    /// Maintains this database's own marker.
    async fn maintain(
        &self,
        marker: &Marker,
        etag: &str,
        mut remembered: Remembered,
        now: Timestamp,
    ) -> Result<BucketIdentity> {
        let (markers, location) = (self.app.db.markers(), self.location());
        if !self.options.dry_run {
            if let Some(lap) = marker.lap.filter(|lap| remembered.next == Some(*lap)) {
                markers.confirm(location, lap, now).await?;
                remembered = Remembered {
                    written: true,
                    lap: Some(lap),
                    next: None,
                    lap_at: Some(now),
                    ..remembered
                };
            } else if !remembered.written {
                markers.record_written(location, now).await?;
            }
            match (remembered.lap_due(now), remembered.moved_at) {
                (Lap::Keep, _) => {}
                (Lap::Settle, Some(moved_at)) => {
                    markers.settle(location, moved_at).await?;
                    remembered.moved_at = None;
                }
                (Lap::Replace | Lap::Settle, _) => {
                    if self.replace(marker, etag, remembered.next, now).await? {
                        remembered.lap_at = Some(now);
                    }
                }
            }
        }
        Ok(match remembered.settles_at(now) {
            Some(at) => BucketIdentity::Unsettled(at),
            None => BucketIdentity::Match,
        })
    }

    /// Replaces the marker's lap by the committed next lap, or by a new lap if there is none.
    /// Returns whether this process replaced it. If the store fails, a later check replaces it.
    async fn replace(
        &self,
        marker: &Marker,
        etag: &str,
        next: Option<Uuid>,
        now: Timestamp,
    ) -> Result<bool> {
        let markers = self.app.db.markers();
        let lap = next.unwrap_or_else(|| self.app.ids.uuid());
        if next.is_none() && !markers.begin(self.location(), marker.lap, lap).await? {
            return Ok(false);
        }
        match self.put(&Marker { lap: Some(lap), ..*marker }, Some(etag)).await {
            Ok(()) => {
                markers.confirm(self.location(), lap, now).await?;
                Ok(true)
            }
            Err(AppError::Store(StoreError::PreconditionFailed)) => Ok(false),
            Err(error) => {
                tracing::warn!(policy = %self.location.policy,
                    error = &error as &dyn std::error::Error,
                    "the marker's lap was not replaced; the next check tries again");
                Ok(false)
            }
        }
    }

    /// Writes the marker. The stored marker must have the ETag `replaces`, or must not exist if
    /// this is `None`. If the store does not support the condition, the marker is written without
    /// it. A first marker is then written only after a HEAD request that finds none.
    pub(super) async fn put(&self, marker: &Marker, replaces: Option<&str>) -> Result<()> {
        let mut options = PutOptions {
            content_type: Some("text/plain".to_owned()),
            if_none_match: replaces.is_none(),
            if_match: replaces.map(str::to_owned),
            ..PutOptions::default()
        };
        let (objects, key) = (&self.store.objects, self.location.prefix.marker());
        let text = Bytes::from(marker.text());
        let write = async {
            match objects.put(&key, text.clone(), &options).await {
                // The store does not support the condition.
                Err(StoreError::Refused { .. }) => {
                    if replaces.is_none() && objects.head(&key).await?.is_some() {
                        return Err(StoreError::PreconditionFailed);
                    }
                    (options.if_match, options.if_none_match) = (None, false);
                    objects.put(&key, text, &options).await
                }
                written => written,
            }
        };
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(written) => Ok(written.map(drop)?),
            Err(elapsed) => Err(StoreError::Unavailable(elapsed.into()).into()),
        }
    }
}

/// Ignores a failed condition, because the caller reads the marker again.
fn accept_race(written: Result<()>) -> Result<()> {
    match written {
        Err(AppError::Store(StoreError::PreconditionFailed)) => Ok(()),
        written => written,
    }
}
