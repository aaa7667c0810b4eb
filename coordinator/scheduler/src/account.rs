//! Who pays for slots, and how much everybody has.

use std::time::Duration;

use nettailor_domain::ids::UserName;

use crate::error::Rejected;
use crate::line::Share;
use crate::record::UserRecord;
use crate::scheduler::Scheduler;
use crate::timers::Timer;

/// A start counts as at least so much: stages that take no time are shared out, too.
const LEAST_CHARGE: Duration = Duration::from_secs(1);
/// After so long what was used counts half.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// What a user has and may have.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) record: UserRecord,
    /// Slots that stages hold for which the user pays.
    pub(crate) in_use: u32,
    /// Slot-milliseconds, halved every hour for everybody at once. Not kept across restarts.
    pub(crate) used: u64,
}

impl Account {
    pub(crate) fn new(name: UserName) -> Self {
        Self {
            record: UserRecord::usual(name),
            in_use: 0,
            used: 0,
        }
    }

    /// Whether so many slots more are allowed.
    pub(crate) fn may_have(&self, slots: u32) -> bool {
        let limit = self.record.limit;
        limit.is_none_or(|limit| self.in_use.saturating_add(slots) <= limit)
    }
}

impl Scheduler {
    pub(crate) fn account(&mut self, name: &UserName) -> &mut Account {
        let account = self.accounts.entry(name.clone());
        account.or_insert_with(|| Account::new(name.clone()))
    }

    /// Brings a user's place among those who wait up to date.
    pub(crate) fn rank(&mut self, name: &UserName) {
        let first = self.line.first_turn(name);
        let account = self.account(name);
        let weight = u64::from(account.record.weight.max(1));
        let share = first.map(|first| Share {
            guaranteed: account.in_use >= account.record.guarantee,
            in_use: 1000 * u64::from(account.in_use) / weight,
            used: account.used / weight,
            first: first.place,
        });
        self.line.rank(name, share);
        self.stirred = true;
    }

    /// A user pays for one slot more.
    pub(crate) fn charge(&mut self, name: &UserName) {
        self.begin_ageing();
        let account = self.account(name);
        account.in_use += 1;
        account.used += LEAST_CHARGE.as_millis() as u64;
        self.rank(name);
    }

    /// A slot that a user paid for is given back after so long.
    pub(crate) fn discharge(&mut self, name: &UserName, held: Duration) {
        self.begin_ageing();
        let account = self.account(name);
        account.in_use = account.in_use.saturating_sub(1);
        account.used += held.saturating_sub(LEAST_CHARGE).as_millis() as u64;
        self.rank(name);
    }

    /// Ageing goes on as long as there is something to age.
    fn begin_ageing(&mut self) {
        if !std::mem::replace(&mut self.ageing, true) {
            let at = self.now.elapsed.saturating_add(HALF_LIFE);
            self.timers.arm(at, Timer::Age);
        }
    }

    /// What was used counts half from now on.
    pub(crate) fn age(&mut self) {
        let names: Vec<UserName> = self.accounts.keys().cloned().collect();
        for name in &names {
            self.account(name).used /= 2;
            self.rank(name);
        }
        self.ageing = false;
        if self.accounts.values().any(|account| account.used > 0) {
            self.begin_ageing();
        }
    }

    /// Sets what a user may have.
    pub(crate) fn set_user(&mut self, record: UserRecord) -> Result<(), Rejected> {
        if let Some(limit) = record.limit
            && record.guarantee > limit
        {
            return Err(Rejected::Unmeetable {
                user: record.name,
                guarantee: record.guarantee,
                limit,
            });
        }
        let name = record.name.clone();
        self.account(&name).record = record;
        self.draft.users.insert(name.clone());
        self.rank(&name);
        Ok(())
    }
}
