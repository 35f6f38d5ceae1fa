use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Deserialize, sqlx::FromRow)]
#[sea_orm(table_name = "uploads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub owner: String,
    pub policy: String,
    pub location: i32,
    pub upload_token_id: Option<Uuid>,
    pub max_size: Option<i64>,
    pub attach_to: Option<String>,
    pub attach_sequence: Option<i64>,
    pub key: String,
    pub filename: Option<String>,
    pub declared_content_type: Option<String>,
    pub declared_size: Option<i64>,
    pub declared_checksum_algorithm: Option<String>,
    pub declared_checksum: Option<String>,
    pub strategy: String,
    pub write_once: bool,
    pub metadata: Json,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub url_expires_at: DateTimeUtc,
    pub multipart_id: Option<String>,
    pub part_size: Option<i64>,
    pub status: String,
    pub reason: Option<String>,
    pub confirmed_by: Option<String>,
    pub late: bool,
    pub etag: Option<String>,
    pub version_id: Option<String>,
    pub size: Option<i64>,
    pub content_type: Option<String>,
    pub checksum_algorithm: Option<String>,
    pub checksum: Option<String>,
    pub verified_before: Option<String>,
    #[serde(deserialize_with = "crate::timestamp::read_option")]
    pub uploaded_at: Option<DateTimeUtc>,
    #[serde(deserialize_with = "crate::timestamp::read_option")]
    pub object_delete_after: Option<DateTimeUtc>,
    #[serde(deserialize_with = "crate::timestamp::read_option")]
    pub object_deleted_at: Option<DateTimeUtc>,
    pub detail: Option<String>,
    pub annotations: Option<String>,
    pub waiting_for: Option<String>,
    pub version: i64,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub created_at: DateTimeUtc,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
