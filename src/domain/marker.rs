//! The marker object of a prefix (`{prefix}.instance`). It shows whether the prefix belongs to this
//! database. If it does not, the service deletes nothing there and does not trust that objects are
//! absent.
//!
//! The marker contains the id of the database (`instance`) and a random *lap* that runs replace
//! from time to time. A copy of a database has the same id, but the original and the copy soon
//! write different laps. Each of them then finds a lap that it never wrote.

use std::fmt;

use chrono::TimeDelta;
use uuid::Uuid;

use super::clock::Timestamp;

/// The last line of a contested marker.
const CONTESTED: &str = "contested";

/// The age at which a lap is replaced: a little less than the default minute between two runs.
const REPLACE_AFTER: TimeDelta = TimeDelta::seconds(50);

/// How long a lap must stay in the marker after the database was moved, until the database trusts
/// the bucket. Every process reads the marker more often than this, so another database with the
/// same id would have marked it as contested by then.
pub const SETTLE_AFTER: TimeDelta = TimeDelta::minutes(3);

/// A marker's content. Its text has three lines: the instance, the lap, and `contested` if it is
/// contested. Versions without laps wrote only the first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The database that the prefix belongs to.
    pub instance: Uuid,
    /// The lap. `None` if a version without laps wrote the marker.
    pub lap: Option<Uuid>,
    /// Whether a database found a lap that it had not written.
    pub contested: bool,
}

impl Marker {
    /// Parses a marker's text. Returns `None` if the text is not a marker.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.trim().lines().map(str::trim);
        let instance = lines.next()?.parse().ok()?;
        let lap = match lines.next() {
            Some(lap) => Some(lap.parse().ok()?),
            None => None,
        };
        let contested = match lines.next() {
            Some(CONTESTED) => true,
            None => false,
            Some(_) => return None,
        };
        lines.next().is_none().then_some(Self { instance, lap, contested })
    }

    /// The marker's text.
    pub fn text(&self) -> String {
        let Self { instance, lap, contested } = self;
        // A contested marker always has three lines.
        let lap = lap.or(contested.then(Uuid::nil)).map(|lap| format!("{lap}\n"));
        let contested = if *contested { "contested\n" } else { "" };
        format!("{instance}\n{}{contested}", lap.unwrap_or_default())
    }
}

/// What a database recorded about the marker at one location.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Whether this database has ever written the marker.
    pub written: bool,
    /// The lap in the marker.
    pub lap: Option<Uuid>,
    /// The lap that a process is writing. It is committed here before it is written to the marker.
    pub next: Option<Uuid>,
    /// When the lap was written; `None` if that was before the database was moved.
    pub lap_at: Option<Timestamp>,
    /// When the database was moved. It is `None` again as soon as a later lap has stayed in the
    /// marker for [`SETTLE_AFTER`].
    pub moved_at: Option<Timestamp>,
    /// Whether another database with the same id was noticed. An operator must say which of the
    /// two is the original.
    pub contested: bool,
}

/// What to do with the lap of this database's own marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lap {
    /// Keep it: it is new enough, or it was written after the database was moved and must stay for
    /// [`SETTLE_AFTER`].
    Keep,
    /// Replace it.
    Replace,
    /// Record that it stayed for [`SETTLE_AFTER`], so no copy of the database is in use.
    Settle,
}

impl Remembered {
    /// Whether this database wrote this lap, or is writing it. `None` is a marker of a version
    /// without laps.
    pub fn knows(&self, lap: Option<Uuid>) -> bool {
        match lap {
            Some(lap) => self.lap == Some(lap) || self.next == Some(lap),
            None => self.lap.is_none(),
        }
    }

    /// Decides what to do with the lap.
    pub fn lap_due(&self, now: Timestamp) -> Lap {
        match self.lap_at {
            Some(at) if self.lap.is_some() && self.next.is_none() => match self.moved_at {
                Some(_) if now - at >= SETTLE_AFTER => Lap::Settle,
                None if now - at >= REPLACE_AFTER => Lap::Replace,
                _ => Lap::Keep,
            },
            _ => Lap::Replace,
        }
    }

    /// When the moved database will trust the bucket; `None` if it trusts it already.
    pub fn settles_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.moved_at.map(|_| self.lap_at.unwrap_or(now) + SETTLE_AFTER)
    }
}

/// Whether a bucket belongs to this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketIdentity {
    /// The bucket belongs to this database.
    Match,
    /// It probably does, but the database was moved or copied a short time ago. Uploads are
    /// accepted, and nothing is deleted until this time.
    Unsettled(Timestamp),
    /// It does not, or that is unknown.
    Mismatch(Mismatch),
}

/// Why a bucket may belong to another database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The marker is gone, or this is another bucket.
    Missing,
    /// The marker belongs to another database. Contains the marker, if it can be read.
    Foreign(Option<Uuid>),
    /// Another database with the same id writes the marker.
    Contested,
}

impl BucketIdentity {
    /// A short description that may be public; `None` if the bucket is this database's.
    pub fn problem(&self) -> Option<&'static str> {
        Some(match self {
            Self::Match => return None,
            Self::Unsettled(_) => "the database was moved or copied; nothing is deleted yet",
            Self::Mismatch(Mismatch::Missing) => "the marker is missing",
            Self::Mismatch(Mismatch::Foreign(_)) => "the marker belongs to another database",
            Self::Mismatch(Mismatch::Contested) => {
                "a copy of the database uses the same bucket, or this is an older copy"
            }
        })
    }

    /// Whether new uploads are accepted.
    pub fn accepts_uploads(&self) -> bool {
        !matches!(self, Self::Mismatch(_))
    }
}

/// Why a bucket is not trusted, and what to do.
impl fmt::Display for BucketIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match => f.write_str("the marker is this database's own"),
            Self::Unsettled(until) => write!(
                f,
                "the database was moved or copied: nothing is deleted and absent objects are \
                 ignored until {}, so that the original can be noticed if it is still in use",
                until.format("%FT%TZ")
            ),
            Self::Mismatch(Mismatch::Missing) => f.write_str(
                "the marker is not in the bucket: is it the right bucket? \
                 `reconcile --adopt-bucket` writes it again",
            ),
            Self::Mismatch(Mismatch::Foreign(instance)) => {
                let instance = instance.map(|id| id.to_string());
                write!(
                    f,
                    "the bucket's marker belongs to instance {}: two environments use the same \
                     prefix, or this is the wrong bucket or database",
                    instance.as_deref().unwrap_or("unknown")
                )
            }
            Self::Mismatch(Mismatch::Contested) => f.write_str(
                "another database with the same id writes the marker: a copy of this database is \
                 in use, or this is an older copy. Stop the copy or run `instance reissue` on it, \
                 then run `instance reclaim` on the original",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::at;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn a_marker_is_parsed_from_its_text_and_other_text_is_not_a_marker() {
        for lap in [None, Some(id(2))] {
            for contested in [false, true] {
                let marker = Marker { instance: id(1), lap, contested };
                let read = Marker::parse(&marker.text()).unwrap();
                assert_eq!((read.instance, read.contested), (id(1), contested));
                assert_eq!(read.lap, lap.or(contested.then(Uuid::nil)));
            }
        }
        let one = id(1);
        assert_eq!(Marker::parse(&one.to_string()).unwrap().lap, None, "version 0.1 had no lap");
        for text in ["", "x", "contested", &format!("{one}\nx"), &format!("{one}\n{one}\nx")] {
            assert_eq!(Marker::parse(text), None, "{text:?}");
        }
        assert_eq!(Marker::parse(&format!("{one}\n{one}\ncontested\nx")), None);
    }

    #[test]
    fn a_lap_is_known_if_it_was_written_or_is_being_written() {
        let known = Remembered { lap: Some(id(1)), next: Some(id(2)), ..Remembered::default() };
        assert!(known.knows(Some(id(1))) && known.knows(Some(id(2))));
        assert!(!known.knows(Some(id(3))) && !known.knows(None));
        let before_laps = Remembered { written: true, ..Remembered::default() };
        assert!(before_laps.knows(None) && !before_laps.knows(Some(id(1))));
    }

    #[test]
    fn a_lap_is_replaced_when_it_is_old_and_at_once_after_a_move() {
        let lap_at = Some(at(0));
        let fresh = Remembered { written: true, lap: Some(id(1)), lap_at, ..Default::default() };
        assert_eq!(fresh.lap_due(at(0)), Lap::Keep);
        assert_eq!(fresh.lap_due(at(1)), Lap::Replace);
        let pending = Remembered { next: Some(id(2)), ..fresh.clone() };
        assert_eq!(pending.lap_due(at(0)), Lap::Replace);
        let moved = Remembered { moved_at: Some(at(1)), lap_at: None, ..fresh };
        assert_eq!(moved.lap_due(at(1)), Lap::Replace);
        assert_eq!(moved.settles_at(at(5)), Some(at(8)));
        let written = Remembered { lap_at: Some(at(1)), ..moved };
        assert_eq!([2, 3].map(|n| written.lap_due(at(n))), [Lap::Keep; 2]);
        assert_eq!((written.lap_due(at(4)), written.settles_at(at(2))), (Lap::Settle, Some(at(4))));
    }
}
