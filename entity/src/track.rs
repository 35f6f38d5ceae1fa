use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Deserialize, sqlx::FromRow)]
#[sea_orm(table_name = "tracks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub owner: String,
    pub title: String,
    pub artist_name: String,
    pub release_date: Option<Date>,
    pub title_order: String,
    pub artist_order: String,
    pub release_order: Date,
    pub status: String,
    pub latest_upload_id: Option<Uuid>,
    pub bound_upload_id: Option<Uuid>,
    pub version: i64,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub created_at: DateTimeUtc,
    #[serde(deserialize_with = "crate::timestamp::read")]
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
