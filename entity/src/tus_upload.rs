use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tus_uploads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: Uuid,
    pub stored: i64,
    pub length: Option<i64>,
    pub metadata: Option<String>,
    pub next_part: i32,
    pub fence: i64,
    pub writer: i64,
    pub lease_until: DateTimeUtc,
    pub checked_parts: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
