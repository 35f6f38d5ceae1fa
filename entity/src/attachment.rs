use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Deserialize, sqlx::FromRow)]
#[sea_orm(table_name = "attachments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub owner: String,
    pub subject: String,
    pub status: String,
    pub next_sequence: i64,
    pub latest_upload_id: Option<Uuid>,
    pub current_upload_id: Option<Uuid>,
    pub current_sequence: Option<i64>,
    pub version: i64,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub created_at: DateTimeUtc,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
