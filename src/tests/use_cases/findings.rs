//! Stored findings: one row for each object and kind, with the runs that saw it.

use chrono::TimeDelta;
use upload_coordinator::domain::run::{
    Counters, Finding, FindingKind, Mode, Run, RunRequest, RunStatus, StoredFinding, Trigger,
};
use upload_coordinator::domain::{Clock as _, PolicyName, RunId, UploadId};
use upload_coordinator::storage::ObjectStore as _;

use crate::support::mp3;
use crate::support::world::World;

async fn orphan(world: &World) -> String {
    let id = UploadId(world.app.ids.uuid());
    let key = world.app.policies.values().next().unwrap().prefix.key(id).to_string();
    world.put_key(&key, mp3(500, 1)).await;
    key
}

async fn keys(world: &World, run: &Run) -> Vec<String> {
    let mut keys: Vec<_> = world.findings(run).await.into_iter().map(|(_, key)| key).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn audits_that_see_the_same_objects_again_add_no_rows() {
    let world = World::new().await;
    for _ in 0..3 {
        orphan(&world).await;
    }
    world.put_key("tracks/notes.txt", "hello").await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        world.pass_the_deadline();
        runs.push(world.reconcile(Mode::Audit).await);
        assert_eq!(world.finding_rows().await, 4);
    }
    let known = world.stored_findings(&runs[3]).await;
    assert_eq!(known.len(), 4);
    for StoredFinding { finding, first_run, first_seen_at, last_run } in known {
        assert_eq!((first_run, last_run), (runs[0].id, runs[3].id));
        assert_eq!((first_seen_at, finding.found_at), (runs[0].started_at, runs[3].started_at));
    }
}

#[tokio::test]
async fn each_run_lists_what_it_saw() {
    let world = World::new().await;
    let audit = async || {
        let run = world.reconcile(Mode::Audit).await;
        let between = world.reconcile(Mode::Incremental).await;
        world.pass(TimeDelta::hours(1));
        assert_eq!(keys(&world, &between).await, Vec::<String>::new());
        run
    };
    let gone = orphan(&world).await;
    world.pass_the_deadline();
    let first = audit().await;
    let remaining = orphan(&world).await;
    world.pass_the_deadline();
    let second = audit().await;
    world.store.delete(&gone).await.unwrap();
    let third = audit().await;
    let fourth = audit().await;
    let mut both = [gone.clone(), remaining.clone()];
    both.sort();
    let remaining = [remaining];
    assert_eq!(keys(&world, &first).await, [gone]);
    assert_eq!(keys(&world, &second).await, both);
    assert_eq!(keys(&world, &third).await, remaining);
    assert_eq!(keys(&world, &fourth).await, remaining);
}

#[tokio::test]
async fn an_audit_lists_a_finding_that_a_concurrent_run_saw_after_it() {
    let world = World::new().await;
    let now = world.clock.now();
    let run = |mode| Run {
        id: RunId(world.app.ids.uuid()),
        request: RunRequest::of(mode, Trigger::Api),
        status: RunStatus::Succeeded,
        counters: Counters::default(),
        error: None,
        started_at: now,
        finished_at: Some(now + TimeDelta::minutes(5)),
    };
    let (before, audit, beside) = (run(Mode::Audit), run(Mode::Audit), run(Mode::Incremental));
    for (run, minute) in [(&before, 0), (&audit, 1), (&beside, 2)] {
        let finding = Finding {
            kind: FindingKind::Late,
            policy: PolicyName::default(),
            key: "tracks/a".to_owned(),
            upload: None,
            size: None,
            detail: None,
            found_at: now + TimeDelta::minutes(minute),
        };
        world.app.db.findings().record(run, &[finding]).await.unwrap();
    }
    for run in [&before, &audit, &beside] {
        assert_eq!(keys(&world, run).await, ["tracks/a"]);
    }
}

#[tokio::test]
async fn a_batch_of_findings_is_one_statement_and_the_pages_list_each_finding_once() {
    let world = World::new().await;
    let now = world.clock.now();
    let run = Run {
        id: RunId(world.app.ids.uuid()),
        request: RunRequest::of(Mode::Audit, Trigger::Api),
        status: RunStatus::Succeeded,
        counters: Counters::default(),
        error: None,
        started_at: now,
        finished_at: Some(now),
    };
    let finding = |n: usize| Finding {
        kind: if n.is_multiple_of(2) { FindingKind::Orphan } else { FindingKind::Foreign },
        policy: PolicyName::default(),
        // A key may contain any character.
        key: format!("tracks/{n:04} %/ä\u{7f}\n"),
        upload: None,
        size: Some(1),
        detail: None,
        found_at: now,
    };
    let findings: Vec<_> = (0..1000).map(finding).collect();
    let record = async |findings: &[Finding]| {
        let before = world.app.db.statements();
        world.app.db.findings().record(&run, findings).await.unwrap();
        world.app.db.statements() - before
    };
    assert_eq!(record(&findings).await, 1);
    // The same objects again, each twice.
    let twice = [&findings[..500], &findings[..500]].concat();
    assert_eq!(record(&twice).await, 1);
    assert_eq!(world.finding_rows().await, 1000);
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let list = world.app.db.findings().list(&run, None, cursor.as_ref(), 77).await;
        let page = list.unwrap();
        listed.extend(page.items.into_iter().map(|known| known.finding.key));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    let expected: Vec<_> = findings.iter().map(|finding| finding.key.clone()).collect();
    assert_eq!(listed, expected);
    let orphans = world.app.db.findings().list(&run, Some(FindingKind::Orphan), None, 1000).await;
    assert_eq!(orphans.unwrap().items.len(), 500);
}
