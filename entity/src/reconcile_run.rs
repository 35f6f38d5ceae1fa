use sea_orm::entity::prelude::*;

#[expect(clippy::struct_excessive_bools, reason = "each is a column")]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reconcile_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub mode: String,
    pub policy: Option<String>,
    pub trigger: String,
    pub dry_run: bool,
    pub forced: bool,
    pub accept_damage: i64,
    pub adopt_bucket: bool,
    pub adopt_owner: Option<String>,
    pub status: String,
    pub cancel_requested: bool,
    pub counters: Json,
    pub error: Option<String>,
    pub started_at: DateTimeUtc,
    pub finished_at: Option<DateTimeUtc>,
    pub scheduled_for: Option<DateTimeUtc>,
    pub deletions: i64,
    pub move_from: Option<String>,
    pub move_concurrency: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
