use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub hash: String,
    pub owner: String,
    pub policy: String,
    pub max_uploads: Option<i64>,
    pub uploads: i64,
    pub max_size: Option<i64>,
    pub attach_to: Option<String>,
    pub metadata: Json,
    pub cors_origins: Json,
    pub created_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    pub ends_at: DateTimeUtc,
    pub revoked_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
