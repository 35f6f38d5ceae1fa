use super::*;
use crate::db::Db;
use crate::db::testing::on_both;
use crate::domain::transition::tests::upload_in;

const LONG: Duration = Duration::from_mins(1);

fn piece(start: u64, size: u64, stored_as: StoredAs) -> Piece {
    Piece { start, size, stored_as, etag: format!("e{start}"), checksum: None }
}

fn progress(pieces: Vec<Piece>) -> Progress {
    Progress { pieces, length: None }
}

async fn insert(db: &Db, status: Status) -> UploadId {
    let upload = crate::domain::Upload { slot: None, ..upload_in(status) };
    let id = upload.id;
    db.uploads().create(upload, None).await.unwrap();
    db.tus().create(id, Some(100), Some("filename YQ==".to_owned()), true).await.unwrap();
    id
}

#[tokio::test]
async fn the_newest_request_takes_the_lease_once_the_writer_has_released_it() {
    on_both(async |db: Db| {
        let (id, tus) = (insert(&db, Status::Pending).await, db.tus());
        let first = tus.claim(id, LONG).await.unwrap().unwrap();
        assert_eq!(first.taken.as_ref().map(|upload| upload.length), Some(Some(100)));
        let second = tus.claim(id, LONG).await.unwrap().unwrap();
        let third = tus.claim(id, LONG).await.unwrap().unwrap();
        assert_eq!((&second.taken, &third.taken), (&None, &None));
        // The writer notices the newer requests when it renews its lease, and can still save its
        // data.
        let fence = tus.renew(id, first.number, LONG).await.unwrap();
        assert_eq!(fence, Some(third.number));
        let saved = progress(vec![piece(0, 7, StoredAs::Tail(first.number))]);
        assert!(tus.commit(id, first.number, &saved, LONG).await.unwrap());
        assert_eq!(tus.take(id, third.number, LONG).await.unwrap(), None);
        tus.release(id, first.number).await.unwrap();
        assert_eq!(tus.take(id, second.number, LONG).await.unwrap(), None);
        let taken = tus.take(id, third.number, LONG).await.unwrap().unwrap();
        assert_eq!(taken.stored, 7);
        // The old writer can't write any more.
        assert!(!tus.commit(id, first.number, &saved, LONG).await.unwrap());
        assert_eq!(tus.renew(id, first.number, LONG).await.unwrap(), None);
        assert_eq!(tus.next_part(id, first.number).await.unwrap(), None);
        tus.release(id, first.number).await.unwrap();
        assert_eq!(tus.claim(id, LONG).await.unwrap().unwrap().taken, None);
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_by_itself() {
    on_both(async |db: Db| {
        let (id, tus) = (insert(&db, Status::Pending).await, db.tus());
        let dead = tus.claim(id, Duration::ZERO).await.unwrap().unwrap();
        assert!(dead.taken.is_some());
        let next = tus.claim(id, LONG).await.unwrap().unwrap();
        assert!(next.taken.is_some() && next.number > dead.number);
        assert!(!tus.commit(id, dead.number, &Progress::default(), LONG).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn new_pieces_replace_the_tails_after_them_and_each_part_number_is_used_once() {
    on_both(async |db: Db| {
        let (id, tus) = (insert(&db, Status::Pending).await, db.tus());
        let writer = tus.claim(id, LONG).await.unwrap().unwrap().number;
        let numbers =
            [tus.next_part(id, writer).await.unwrap(), tus.next_part(id, writer).await.unwrap()];
        assert_eq!(numbers, [Some(1), Some(2)]);
        let part = piece(0, 50, StoredAs::Part(2));
        let tails = [piece(50, 3, StoredAs::Tail(1)), piece(53, 4, StoredAs::Tail(2))];
        let all = [vec![part.clone()], tails.to_vec()].concat();
        assert!(tus.commit(id, writer, &progress(all.clone()), LONG).await.unwrap());
        assert_eq!(tus.pieces(id).await.unwrap(), all);
        assert_eq!(tus.tails(id).await.unwrap(), tails);
        let next = piece(50, 20, StoredAs::Part(3));
        let changed = Progress { pieces: vec![next.clone()], length: Some(70) };
        assert!(tus.commit(id, writer, &changed, LONG).await.unwrap());
        assert_eq!(tus.pieces(id).await.unwrap(), [part, next]);
        let found = tus.find(id).await.unwrap().unwrap();
        assert_eq!((found.stored, found.length, found.next_part), (70, Some(70), 3));
        assert_eq!(found.metadata.as_deref(), Some("filename YQ=="));
        tus.end(id).await.unwrap();
        assert_eq!(tus.pieces(id).await.unwrap(), []);
        assert!(!tus.commit(id, writer, &changed, LONG).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn only_rows_of_uploads_that_are_not_pending_are_pruned() {
    on_both(async |db: Db| {
        let id = insert(&db, Status::Pending).await;
        let other = UploadId(uuid::Uuid::from_u128(7));
        db.tus().create(other, None, None, false).await.unwrap();
        let writer = db.tus().claim(other, LONG).await.unwrap().unwrap().number;
        let late = progress(vec![piece(0, 1, StoredAs::Tail(writer))]);
        assert!(db.tus().commit(other, writer, &late, LONG).await.unwrap());
        assert_eq!(db.tus().prune(10).await.unwrap(), 1);
        assert_eq!(db.tus().pieces(other).await.unwrap(), []);
        assert_eq!(db.tus().prune(10).await.unwrap(), 0);
        assert!(db.tus().find(id).await.unwrap().is_some());
    })
    .await;
}
