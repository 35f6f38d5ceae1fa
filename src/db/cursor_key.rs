//! The key that signs the cursors of lists. It is stored in the database, so that all processes
//! share it.

use entity::secret::{self, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait as _;
use sea_orm::sea_query::OnConflict;

use super::engine::pool::Engine;
use super::{CursorKey, DbError, Result};

/// The name of the secret that signs cursors.
const CURSORS: &str = "cursors";

/// The key that signs cursors; created by the first caller.
pub(super) async fn find_or_create(engine: &Engine) -> Result<CursorKey> {
    if let Some(row) = Entity::find_by_id(CURSORS.to_owned()).one(&engine.read).await? {
        return read(&row.value);
    }
    let fresh = hex::encode(rand::random::<[u8; 32]>());
    let row = secret::ActiveModel { name: Set(CURSORS.to_owned()), value: Set(fresh) };
    Entity::insert(row)
        .on_conflict(OnConflict::column(secret::Column::Name).do_nothing().to_owned())
        .exec_without_returning(&engine.write)
        .await?;
    // Another process may have been first.
    let row = Entity::find_by_id(CURSORS.to_owned()).one(&engine.write).await?;
    read(row.map(|row| row.value).unwrap_or_default().as_str())
}

fn read(text: &str) -> Result<CursorKey> {
    let mut key = [0; 32];
    let read = hex::decode_to_slice(text, &mut key);
    let id = CURSORS.to_owned();
    read.map_err(|_| DbError::Corrupt { table: "secrets", column: "value", id })?;
    Ok(CursorKey::new(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated_text;

    proptest! {
        #[test]
        fn only_64_hexadecimal_digits_are_a_key(
            text in prop_oneof![mutated_text(any::<[u8; 32]>().prop_map(hex::encode)), ".{0,80}"],
        ) {
            let whole = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(read(&text).is_ok(), whole);
        }
    }
}
