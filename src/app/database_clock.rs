//! The database's clock, which all processes share. To avoid a query for each use, its difference
//! from the process's clock is measured from time to time. A process whose own clock is wrong would
//! otherwise see deadlines pass too early.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;

use super::{App, Result};
use crate::domain::Timestamp;
use crate::telemetry::metrics as names;

/// A measurement that took longer than this is not used.
const MAX_ROUND_TRIP: TimeDelta = TimeDelta::seconds(2);

/// The database's time minus this process's, in microseconds; 0 until it is measured.
#[derive(Debug, Default)]
pub struct ClockOffset(AtomicI64);

impl App {
    /// The time by the database's clock, according to the last measurement.
    pub fn database_now(&self) -> Timestamp {
        self.now() + TimeDelta::microseconds(self.clock_offset.0.load(Ordering::Relaxed))
    }

    /// Measures the difference between the database's clock and this process's clock.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn measure_clock_offset(&self) -> Result<TimeDelta> {
        let before = self.now();
        let time = self.db.time().await?;
        let took = self.now() - before;
        let offset = time - (before + took / 2);
        if took <= MAX_ROUND_TRIP {
            let micros = offset.num_microseconds().unwrap_or_default();
            self.clock_offset.0.store(micros, Ordering::Relaxed);
            metrics::gauge!(names::DB_CLOCK_OFFSET).set(offset.as_seconds_f64());
        }
        Ok(offset)
    }
}
