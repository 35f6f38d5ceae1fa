//! The table of episodes. Their audio files are managed with the use cases of attachments.

use std::collections::BTreeMap;
use std::sync::Arc;

use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _, QueryOrder as _,
};
use upload_coordinator::app::attachments::AttachmentUploads;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::db::attachments::AttachmentFilter;
use upload_coordinator::domain::{Owner, Status, Subject, Upload, UploadId};
use upload_coordinator::storage::signer::SignedRequest;
use uuid::Uuid;

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "episodes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub owner: String,
        pub title: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub struct Episodes {
    pub app: Arc<App>,
    pub connection: DatabaseConnection,
}

/// The subject of an episode's audio file.
fn audio(id: Uuid) -> Subject {
    format!("episode:{id}:audio").parse().unwrap()
}

impl Episodes {
    pub async fn create(&self, owner: &Owner, title: &str) -> Uuid {
        let id = self.app.ids.uuid();
        let (owner, title) = (Set(owner.as_str().to_owned()), Set(title.to_owned()));
        let row = row::ActiveModel { id: Set(id), owner, title };
        row::Entity::insert(row).exec_without_returning(&self.connection).await.unwrap();
        id
    }

    /// Creates an upload that becomes the episode's audio file once it is verified.
    pub async fn create_upload(&self, owner: &Owner, id: Uuid) -> Upload {
        let new = NewUpload { attach_to: Some(audio(id)), ..NewUpload::default() };
        self.app.create_upload(owner, new).await.unwrap().upload
    }

    /// Makes an existing upload the episode's audio file.
    pub async fn attach(&self, owner: &Owner, id: Uuid, upload: UploadId) -> Result<(), AppError> {
        self.app.attach(owner, &audio(id), upload).await.map(|_| ())
    }

    pub async fn audio(&self, owner: &Owner, id: Uuid) -> Result<AttachmentUploads, AppError> {
        self.app.attachment(owner, &audio(id)).await
    }

    pub async fn audio_url(&self, owner: &Owner, id: Uuid) -> Result<SignedRequest, AppError> {
        self.app.attachment_file(owner, &audio(id)).await
    }

    /// The titles of all episodes, with the status of the newest upload of each.
    pub async fn list(&self, owner: &Owner) -> Vec<(String, Option<Status>)> {
        let rows = row::Entity::find().filter(row::Column::Owner.eq(owner.as_str()));
        let rows = rows.order_by_asc(row::Column::Title).all(&self.connection).await.unwrap();
        let filter =
            AttachmentFilter { prefix: "episode:".into(), limit: 1000, ..Default::default() };
        let page = self.app.list_attachments(owner, &filter).await.unwrap();
        let statuses: BTreeMap<_, _> = page
            .items
            .into_iter()
            .map(|of| (of.attachment.subject.to_string(), of.attachment.status))
            .collect();
        let status = |id| statuses.get(audio(id).as_str()).copied().flatten();
        rows.into_iter().map(|row| (row.title, status(row.id))).collect()
    }

    /// Ends the episode's uploads before the row is deleted. If that fails, the request can be
    /// repeated.
    pub async fn delete(&self, owner: &Owner, id: Uuid) -> Result<(), AppError> {
        match self.app.delete_attachment(owner, &audio(id)).await {
            Ok(()) | Err(AppError::NotFound("attachment")) => {}
            Err(error) => return Err(error),
        }
        let row = row::Entity::delete_by_id(id).filter(row::Column::Owner.eq(owner.as_str()));
        row.exec(&self.connection).await.unwrap();
        Ok(())
    }
}
