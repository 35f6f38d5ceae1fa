//! A rolling upgrade: this version beside a newer one that has migrated the database.

use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::{Live, run};

#[tokio::test]
async fn every_command_works_on_a_newer_schema_that_allows_this_version() {
    let on = Subject::server().await;
    let database = TestDatabase::create().await;
    let mut live =
        Live::serving(&on.configuration(), &[("database.url", database.url.as_str())]).await;
    let track = live.track().await;
    let own = database.level().await;
    database.add_migration("m20990101_000001_future").await;
    database.set_levels(own + 1, own).await;

    // `serve --migrate`, until `readyz` is 200.
    live.terminate().await;
    live.restart().await;
    assert_eq!(live.get(&format!("/api/tracks/{track}")).await.0, 200);

    let store = on.configuration().into_iter();
    let mut settings: Vec<_> =
        store.map(|(key, value)| (format!("storage.default.{key}"), value)).collect();
    settings.push(("policies.tracks.prefix".to_owned(), on.prefix().to_owned()));
    settings.push(("database.url".to_owned(), database.url.clone()));
    let commands: [&[&str]; 5] = [
        &["token", "list"],
        &["reconcile", "--mode", "incremental"],
        &["doctor"],
        &["migrate", "up"],
        &["migrate", "status"],
    ];
    for command in commands {
        let output = run(command, &settings).await;
        assert_eq!(output.status.code(), Some(0), "{command:?} {output:?}");
    }
    let output = run(&["migrate", "down"], &settings).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("newer version"), "{output:?}");

    database.set_levels(own + 1, own + 1).await;
    let refusing: [&[&str]; 3] = [&["serve"], &["token", "list"], &["doctor"]];
    for command in refusing {
        let output = run(command, &settings).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(1), "{command:?} {text}");
        assert!(text.to_lowercase().contains("the newer version"), "{command:?} {text}");
    }
}
