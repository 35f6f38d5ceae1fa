//! Reads and repeats webhook deliveries, for administrators.

use uuid::Uuid;

use super::{App, AppError, Result};
use crate::db::{Cursor, Page};
use crate::domain::webhook::{Delivery, DeliveryStatus};

impl App {
    /// A page of deliveries with this status or with any, newest first.
    pub async fn list_deliveries(
        &self,
        status: Option<DeliveryStatus>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Delivery>> {
        Ok(self.db.webhooks().list(status, cursor, limit).await?)
    }

    /// Makes a delivery with any status due now. It is then attempted as if it were new.
    pub async fn redeliver(&self, id: Uuid) -> Result<Delivery> {
        let delivery = self.db.webhooks().redeliver(id, self.now()).await?;
        delivery.ok_or(AppError::NotFound("delivery"))
    }
}
