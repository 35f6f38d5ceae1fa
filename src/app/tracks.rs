//! Creates, reads, updates and deletes tracks. A track is deleted together with its uploads.

use std::collections::HashMap;

use super::idempotency::IdempotencyKey;
use super::turns::{MAX_WRITES, pause};
use super::{App, AppError, MAX_TRIES, Result};
use crate::db::Page;
use crate::db::idempotency::Claim;
use crate::db::tracks::{TrackFields, TrackFilter};
use crate::domain::transition::Event;
use crate::domain::{Owner, Subject, Track, TrackId, Upload};

/// A track and its newest upload.
pub type WithUpload = (Track, Option<Upload>);

/// How many uploads of a subject are ended in one transaction.
const BATCH: u64 = 200;

impl App {
    /// Creates a track.
    pub async fn create_track(&self, owner: &Owner, fields: TrackFields) -> Result<Track> {
        Ok(self.create_track_once(owner, None, fields).await?.0)
    }

    /// Creates a track, or returns the one that an earlier request with the same key created.
    pub async fn create_track_once(
        &self,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        fields: TrackFields,
    ) -> Result<WithUpload> {
        let create = |claim: Option<Claim>| async move {
            let claim = claim.as_ref();
            let id = TrackId(claim.map_or_else(|| self.ids.uuid(), |claim| claim.resource));
            Ok((self.db.tracks().create(id, owner, fields, self.now(), claim).await?, None))
        };
        self.idempotent(owner, key, create, |id| self.track(owner, TrackId(id))).await
    }

    /// One track of this owner, with its newest upload.
    pub async fn track(&self, owner: &Owner, id: TrackId) -> Result<WithUpload> {
        let track = self.db.tracks().find(owner, id).await?.ok_or(AppError::NotFound("track"))?;
        self.with_upload(track).await
    }

    async fn with_upload(&self, track: Track) -> Result<WithUpload> {
        let upload = match track.latest_upload {
            Some(id) => self.db.uploads().find(&track.owner, id).await?,
            None => None,
        };
        Ok((track, upload))
    }

    /// A page of an owner's tracks, each with its newest upload: two queries.
    pub async fn list_tracks(
        &self,
        owner: &Owner,
        filter: &TrackFilter,
    ) -> Result<Page<WithUpload>> {
        let page = self.db.tracks().list(owner, filter).await?;
        let ids: Vec<_> = page.items.iter().filter_map(|track| track.latest_upload).collect();
        let uploads = self.db.uploads().find_many(owner, &ids).await?;
        let mut uploads: HashMap<_, _> = uploads.into_iter().map(|u| (u.id, u)).collect();
        Ok(page.map(|track| {
            let upload = track.latest_upload.and_then(|id| uploads.remove(&id));
            (track, upload)
        }))
    }

    /// Updates a track with `change`. If another writer was first, `change` is called again.
    pub async fn update_track(
        &self,
        owner: &Owner,
        id: TrackId,
        change: impl Fn(TrackFields) -> TrackFields + Send,
    ) -> Result<WithUpload> {
        let _turn = self.turns.wait(id.0).await;
        for lost in 0..MAX_WRITES {
            pause(lost).await;
            let track =
                self.db.tracks().find(owner, id).await?.ok_or(AppError::NotFound("track"))?;
            let fields = change(TrackFields {
                title: track.title.clone(),
                artist_name: track.artist_name.clone(),
                release_date: track.release_date,
            });
            if let Some(track) = self.db.tracks().update(&track, fields, self.now()).await? {
                return self.with_upload(track).await;
            }
        }
        Err(AppError::Contended)
    }

    /// Ends every upload of a track, and deletes the track. The rows of the uploads stay until
    /// their objects are deleted.
    pub async fn delete_track(&self, owner: &Owner, id: TrackId) -> Result<()> {
        self.db.tracks().find(owner, id).await?.ok_or(AppError::NotFound("track"))?;
        for _ in 0..MAX_TRIES {
            while self.end_uploads(owner, &Subject::of_track(id)).await? {}
            // Refused if an upload was created in the meantime. The loop then ends that upload too.
            if self.db.tracks().delete(owner, id).await? {
                return Ok(());
            }
            if self.db.tracks().find(owner, id).await?.is_none() {
                return Ok(());
            }
        }
        Err(AppError::Contended)
    }

    /// Ends a batch of a subject's uploads. Returns `false` if none was open.
    pub(super) async fn end_uploads(&self, owner: &Owner, subject: &Subject) -> Result<bool> {
        let open = self.db.uploads().list_open_of(owner, subject, BATCH).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let events = open.into_iter().map(|upload| (upload, Event::Delete)).collect();
        for ended in self.apply_many(events).await? {
            ended?;
        }
        Ok(true)
    }
}
