use crate::support::database::TestDatabase;

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let database = TestDatabase::create().await;
    let db = database.connect().await;
    let all = db.pending_migrations().await.unwrap();
    assert!(all.len() > 4 && all.is_sorted(), "{all:?}");
    db.migrate_up().await.unwrap();
    assert_eq!(db.pending_migrations().await.unwrap(), Vec::<String>::new());
    let count = u32::try_from(all.len()).unwrap();
    db.migrate_down(count).await.unwrap();
    assert_eq!(db.pending_migrations().await.unwrap(), all);
    db.migrate_up().await.unwrap();
    assert!(db.migrations().await.unwrap().iter().all(|(_, applied)| *applied));
}
