//! Which uploads incremental runs check.

use std::sync::Arc;

use chrono::TimeDelta;
use upload_coordinator::domain::key::Shard;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::upload::State;
use upload_coordinator::domain::{KeyRange, Policy, Upload, UploadId};
use upload_coordinator::reconcile::plan::{PartPlan, Planner, open_window};
use upload_coordinator::reconcile::{ReconcileSettings, Reconciler};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::Operation;

use super::sharing::with_uploads;
use crate::support::mp3;
use crate::support::world::World;

/// A world with rows of uploads, and the plans of an incremental run for them.
struct Plans {
    world: World,
    policy: Policy,
    template: Upload,
}

impl Plans {
    async fn new() -> Self {
        let world = World::new().await;
        let policy = world.app.policies.values().next().unwrap().clone();
        let template = world.upload().await;
        world.app.delete_upload(&world.owner, template.id).await.unwrap();
        Self { world, policy, template }
    }

    /// The `n`th key of a shard.
    fn key(&self, n: u128, shard: u128) -> String {
        self.policy.prefix.key(id(n, shard)).to_string()
    }

    async fn add(&self, n: u128, shard: u128, state: State) {
        let id = id(n, shard);
        let key = self.policy.prefix.key(id);
        let upload = Upload { id, key, state, ..self.template.clone() };
        assert!(self.world.app.db.uploads().create_ended(&upload).await.unwrap());
    }

    /// 1 if the range contains the row of the template, which is not open, otherwise 0.
    fn template_in(&self, range: &KeyRange) -> usize {
        usize::from(range.contains(&self.template.key.to_string()))
    }

    /// The plan for each part of the prefix, and the number of statements that planning needed.
    async fn all(&self) -> (Vec<PartPlan>, u64) {
        self.plans_of(self.policy.prefix.whole()).await
    }

    async fn plans_of(&self, range: KeyRange) -> (Vec<PartPlan>, u64) {
        let app = &self.world.app;
        let store = app.store_of(&self.policy).unwrap();
        let location = app.current_location(&self.policy).await.unwrap();
        let window = open_window(app, &self.policy, [store], TimeDelta::hours(1));
        let mut planner = Planner::new(app, &location, store, range, window);
        let (before, mut parts) = (app.db.statements(), Vec::new());
        for part in planner.parts().await.unwrap() {
            parts.push(planner.plan(&part).await.unwrap());
        }
        (parts, app.db.statements() - before)
    }
}

fn id(n: u128, shard: u128) -> UploadId {
    UploadId(uuid::Uuid::from_u128(n << 8 | shard))
}

#[tokio::test]
async fn a_few_old_open_uploads_do_not_make_the_listing_start_far_back() {
    let plans = Plans::new().await;
    // All ids are in the first shard, in ascending order.
    let next_plan = async || plans.all().await.0.swap_remove(0);
    assert!(next_plan().await.list.is_none());
    for n in 0..3 {
        plans.add(n, 0, State::Pending).await;
    }
    for n in 100..1200 {
        plans.add(n, 0, State::Cancelled).await;
    }
    let few = next_plan().await;
    assert_eq!((few.heads.len(), few.list.is_none()), (3, true));
    for n in 2000..2030 {
        plans.add(n, 0, State::Pending).await;
    }
    let many = next_plan().await;
    assert_eq!(many.heads.len(), 4);
    let list = many.list.unwrap();
    let rows = 29 + plans.template_in(&list.range);
    let after = list.range.after.unwrap();
    assert!(after < plans.key(2001, 0) && after > plans.key(2000, 0));
    assert_eq!(list.rows.unwrap().len(), rows, "the rows were read to count them");
    let app = &plans.world.app;
    let location = app.current_location(&plans.policy).await.unwrap();
    let whole = location.prefix.whole();
    let counted = app.db.scan().count_in_range((&*location).into(), &whole, 7).await;
    assert_eq!(counted.unwrap(), 7);
}

#[tokio::test]
async fn every_open_row_is_planned_exactly_once() {
    let plans = Plans::new().await;
    let add = async |open: &mut Vec<String>, shard: u128, count: u128| {
        for n in 0..count {
            plans.add(n, shard, State::Pending).await;
            open.push(plans.key(n, shard));
        }
    };
    let mut open = Vec::new();
    add(&mut open, 3, 2).await;
    add(&mut open, 9, 7).await;
    let (parts, statements) = plans.all().await;
    assert_eq!((parts.len(), statements), (Shard::all().count(), 1));
    assert_eq!(parts.into_iter().flat_map(|next_plan| next_plan.heads).collect::<Vec<_>>(), open);
    // More rows than one statement reads: within a shard, across the end of a shard, and in the
    // last shard.
    for (shard, count) in [(0, 640), (1, 20), (4, 501), (5, 1), (15, 503)] {
        add(&mut open, shard, count).await;
    }
    let whole = plans.policy.prefix.whole();
    let upper = KeyRange { after: Some("tracks/8".into()), ..whole.clone() };
    let middle = KeyRange { until: Some("tracks/8".into()), ..whole.resumed_after("tracks/4") };
    // The range of a run that continues after it was killed.
    let resumed = whole.resumed_after(&plans.key(5, 1));
    for range in [whole, upper, middle, resumed] {
        let (parts, _) = plans.plans_of(range.clone()).await;
        for key in &open {
            let times = parts.iter().map(|next_plan| {
                let listed = next_plan.list.as_ref().is_some_and(|list| list.range.contains(key));
                next_plan.heads.iter().filter(|head| *head == key).count() + usize::from(listed)
            });
            assert_eq!(times.sum::<usize>(), usize::from(range.contains(key)), "{key} {range:?}");
        }
    }
}

#[tokio::test]
async fn one_list_is_planned_if_it_covers_all_parts() {
    let plans = Plans::new().await;
    for n in 0..3 {
        for shard in 0..16 {
            plans.add(n, shard, State::Pending).await;
        }
    }
    let (mut parts, _) = plans.all().await;
    let Some(PartPlan { heads, list: Some(list) }) = parts.pop() else { panic!("{parts:?}") };
    assert_eq!((parts.len(), heads.len()), (0, 0));
    assert_eq!(list.rows.as_ref().unwrap().len(), 48 + plans.template_in(&list.range));
    assert!(list.range.contains(&plans.key(0, 0)) && list.range.contains(&plans.key(2, 15)));
}

#[tokio::test]
async fn a_run_finalizes_even_if_a_listing_fails() {
    let mut world = World::new().await;
    let removed = world.upload().await;
    world.put(&removed, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, removed.id).await.unwrap();
    world.app.delete_upload(&world.owner, removed.id).await.unwrap();
    // A store that can't start a listing after a key is listed as one range.
    let mut app = world.replica().await;
    let store = app.stores.get_mut("default").unwrap();
    let capabilities = Capabilities { start_after: false, ..(*store.capabilities).clone() };
    store.capabilities = capabilities.into();
    world.reconciler = Arc::new(Reconciler::new(Arc::new(app), ReconcileSettings::default()));
    world.store.fail_next(Operation::List, 1, || StoreError::Unavailable("down".into()));
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Failed, 1), "{:?}", run.error);
}

#[tokio::test]
async fn the_number_of_shards_grows_with_the_number_of_open_rows() {
    let world = with_uploads(520).await;
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!((run.status, run.counters.confirmed), (RunStatus::Succeeded, 520));
    // Two shards with about 260 keys each, and the finalizing shard.
    assert_eq!(world.shards(run.id).await.len(), 3);
    assert_eq!(run.counters.head_requests, 520, "one HEAD for each upload");
}
