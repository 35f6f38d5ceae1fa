use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reconcile_shards")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub policy: String,
    pub location: i32,
    pub closing: bool,
    pub prefix: Option<String>,
    pub after: Option<String>,
    pub until: Option<String>,
    pub stage: String,
    pub cursor: Option<String>,
    pub status: String,
    pub error: Option<String>,
    pub counters: Json,
    pub findings: i64,
    pub holder: Option<Uuid>,
    pub fence: i64,
    pub expires_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
