//! Slots of pools. They are not lost with power: whoever held them is not there to hold them, and their lease ends.

use async_trait::async_trait;
use opyard_model::id::RunId;
use tokio::sync::watch;

use super::{MemoryTenant, Tenant};
use crate::error::StoreError;
use crate::pool::{Book, Claimant, LEASE, Now, PoolStatus, Pools, SlotRequest};
use crate::sqlite::lock;

impl Tenant {
    fn with_book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = lock(&self.book);
        let now = self.clock.now();
        book.rows.retain(|row| row.until > now);
        work(&mut book)
    }

    fn give_back(&self, mut goes: impl FnMut(&Claimant) -> bool) {
        self.with_book(|book| {
            book.rows.retain(|row| !goes(&row.by));
            let Book { rows, limits } = book;
            limits.retain(|pool, _| !pool.is_of_runs() || rows.iter().any(|row| row.pool == *pool));
        });
        self.freed.send_replace(());
    }
}

#[async_trait]
impl Pools for MemoryTenant {
    async fn ask(&self, request: &SlotRequest) -> Result<bool, StoreError> {
        let now = Now { process: "", at: self.0.clock.now() };
        Ok(self.0.with_book(|book| {
            let asked = book.ask(request, now);
            book.limits.extend(book.limits_after(request));
            book.rows.retain(|row| row.by != request.by);
            book.rows.extend(asked.rows);
            asked.held
        }))
    }

    async fn renew(&self, held: &[Claimant]) -> Result<(), StoreError> {
        let until = self.0.clock.now().after(LEASE);
        self.0.with_book(|book| {
            book.rows.iter_mut().filter(|row| held.contains(&row.by)).for_each(|row| row.until = until);
        });
        Ok(())
    }

    async fn release(&self, by: &[Claimant]) -> Result<(), StoreError> {
        self.0.give_back(|one| by.contains(one));
        Ok(())
    }

    async fn release_run(&self, run: RunId, whole: bool) -> Result<(), StoreError> {
        self.0.give_back(|one| one.run == run && (whole || one.step.is_some()));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PoolStatus>, StoreError> {
        Ok(self.0.with_book(|book| book.status()))
    }

    fn freed(&self) -> watch::Receiver<()> {
        self.0.freed.subscribe()
    }
}
