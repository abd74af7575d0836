//! How far a worker's credential goes: whose tasks its worker may be given and may speak of, and of which drivers.

use std::sync::Arc;

use super::{Job, LeaseKey, Tenant};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whose tasks; `None` for those of all tenants.
    pub tenant: Option<Tenant>,
    /// Of which drivers; `None` for all of them.
    pub drivers: Option<Arc<[Arc<str>]>>,
}

impl Reach {
    /// All tenants, all drivers.
    pub fn everything() -> Self {
        Self {
            tenant: None,
            drivers: None,
        }
    }

    /// Whether this tenant's tasks are within it.
    pub fn includes(&self, tenant: &Tenant) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }

    /// Whether this driver's tasks are within it.
    pub fn serves(&self, driver: &str) -> bool {
        self.drivers
            .as_ref()
            .is_none_or(|own| own.iter().any(|own| **own == *driver))
    }

    /// Whether a lease of this job is within it.
    pub fn covers(&self, lease: &LeaseKey, job: &Job) -> bool {
        let task = job.tasks.get(lease.ordinal as usize);
        self.includes(&lease.tenant) && task.is_some_and(|task| self.serves(&task.spec.driver))
    }

    /// Those of these drivers that are within it.
    #[must_use]
    pub fn of(&self, drivers: Arc<[Arc<str>]>) -> Arc<[Arc<str>]> {
        match drivers.iter().all(|driver| self.serves(driver)) {
            true => drivers,
            false => {
                let served = drivers.iter().filter(|driver| self.serves(driver));
                served.cloned().collect()
            }
        }
    }
}

/// A driver's tasks that may be taken: one tenant's, or those of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// Which driver.
    pub driver: Arc<str>,
    /// Whose; `None` for those of all tenants.
    pub tenant: Option<Tenant>,
}

impl Queue {
    /// Those of all tenants.
    pub fn of_all(driver: &Arc<str>) -> Self {
        Self {
            driver: Arc::clone(driver),
            tenant: None,
        }
    }

    /// Those of one tenant.
    pub fn of_one(driver: &Arc<str>, tenant: &Tenant) -> Self {
        Self {
            driver: Arc::clone(driver),
            tenant: Some(tenant.clone()),
        }
    }
}
