//! The events that happen to uploads: a list of acts, ordered by time.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What happens to one upload, seen from outside of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    ArrivesWrong,
    NeverArrives,
    ArrivesLate,
    Vanishes,
    VanishesAndReturns,
    IsOverwritten,
    /// Another tool writes the same bytes again, in parts.
    IsCopiedBack,
    IsCancelledAndArrives,
    IsDeleted,
    IsRenewedAndArrives,
    /// The older of two uploads of one track. The newer upload is the next fate in the list.
    IsReplaced,
    Replaces,
    /// A record attaches it later, perhaps too late.
    IsClaimed,
    /// No record ever attaches it.
    IsUnclaimed,
    /// The older of two uploads that a record attaches one after the other. The newer upload is the
    /// next fate in the list.
    IsReplacedLater,
    ReplacesLater,
}

const FATES: [Fate; 15] = [
    Fate::Arrives,
    Fate::ArrivesWrong,
    Fate::NeverArrives,
    Fate::ArrivesLate,
    Fate::Vanishes,
    Fate::VanishesAndReturns,
    Fate::IsOverwritten,
    Fate::IsCopiedBack,
    Fate::IsCancelledAndArrives,
    Fate::IsDeleted,
    Fate::IsRenewedAndArrives,
    Fate::IsReplaced,
    Fate::IsClaimed,
    Fate::IsUnclaimed,
    Fate::IsReplacedLater,
];

/// One act. The number is the index of the upload that it happens to.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Create(usize, Fate),
    Put(usize),
    PutWrong(usize),
    PutOther(usize),
    CopyBack(usize),
    Confirm(usize),
    LoseObject(usize),
    End(usize),
    Renew(usize),
    Attach(usize),
    Orphan,
    Foreign,
    OrphanMultipart,
    MultipartOf(usize),
    /// The trouble that affects the whole world.
    Trouble,
}

/// Acts with the minute in which each happens.
pub struct Script {
    pub acts: Vec<(i64, Act)>,
}

impl Script {
    pub fn new(rng: &mut StdRng) -> Self {
        let mut script = Self { acts: Vec::new() };
        let mut life = 0;
        for _ in 0..rng.random_range(8..22) {
            let fate = FATES[rng.random_range(0..FATES.len())];
            let born = rng.random_range(0..90);
            script.live(life, fate, born, rng);
            life += 1;
            let newer = match fate {
                Fate::IsReplaced => Some(Fate::Replaces),
                Fate::IsReplacedLater => Some(Fate::ReplacesLater),
                _ => None,
            };
            if let Some(newer) = newer {
                script.live(life, newer, born + 1, rng);
                life += 1;
            }
        }
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..180);
            // A multipart upload is opened only if the upload was created before.
            script.acts.push(match rng.random_range(0..4) {
                0 => (at, Act::Orphan),
                1 => (at, Act::Foreign),
                2 => (at, Act::OrphanMultipart),
                _ => (at + 95, Act::MultipartOf(rng.random_range(0..life))),
            });
        }
        script.acts.push((rng.random_range(30..240), Act::Trouble));
        script.acts.sort_by_key(|(at, _)| *at);
        script
    }

    /// URLs are valid for an hour and the grace is a quarter of an hour, so the deadline is at
    /// minute 75.
    fn live(&mut self, n: usize, fate: Fate, born: i64, rng: &mut StdRng) {
        let mut at = |minute: i64, act| self.acts.push((born + minute, act));
        at(0, Act::Create(n, fate));
        let arrives = rng.random_range(1..40);
        let confirms = rng.random_bool(0.5);
        let after = arrives + rng.random_range(5..200);
        match fate {
            Fate::NeverArrives => {}
            Fate::Arrives | Fate::IsReplaced | Fate::Replaces | Fate::IsUnclaimed => {
                at(arrives, Act::Put(n));
            }
            Fate::IsClaimed | Fate::IsReplacedLater => {
                at(arrives, Act::Put(n));
                at(rng.random_range(1..200), Act::Attach(n));
            }
            Fate::ReplacesLater => {
                at(arrives, Act::Put(n));
                at(rng.random_range(200..300), Act::Attach(n));
            }
            Fate::ArrivesWrong => at(arrives, Act::PutWrong(n)),
            Fate::ArrivesLate => at(rng.random_range(76..300), Act::Put(n)),
            Fate::Vanishes => {
                at(arrives, Act::Put(n));
                at(after, Act::LoseObject(n));
            }
            Fate::VanishesAndReturns => {
                at(arrives, Act::Put(n));
                at(after, Act::LoseObject(n));
                at(after + rng.random_range(1..120), Act::Put(n));
            }
            Fate::IsOverwritten => {
                at(arrives, Act::Put(n));
                at(after, Act::PutOther(n));
            }
            Fate::IsCopiedBack => {
                at(arrives, Act::Put(n));
                at(after, Act::CopyBack(n));
            }
            Fate::IsCancelledAndArrives => {
                at(arrives, Act::End(n));
                at(after, Act::Put(n));
            }
            Fate::IsDeleted => {
                at(arrives, Act::Put(n));
                at(after, Act::End(n));
            }
            Fate::IsRenewedAndArrives => {
                let renewed = rng.random_range(30..150);
                at(renewed, Act::Renew(n));
                at(renewed + rng.random_range(1..50), Act::Put(n));
            }
        }
        if confirms {
            at(arrives + 2, Act::Confirm(n));
        }
    }
}
