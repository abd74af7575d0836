//! A set of queues, which is asked for every worker that waits: so a question makes nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::domain::{Tenant, reach::Queue};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_driver: HashMap<Arc<str>, OfDriver>,
    len: usize,
}

#[derive(Debug, Default)]
struct OfDriver {
    of_all: bool,
    of_one: HashSet<Tenant>,
}

impl Queues {
    pub(super) fn insert(&mut self, queue: Queue) {
        let of_driver = self.by_driver.entry(queue.driver).or_default();
        let is_new = match queue.tenant {
            None => !std::mem::replace(&mut of_driver.of_all, true),
            Some(tenant) => of_driver.of_one.insert(tenant),
        };
        self.len += usize::from(is_new);
    }

    pub(super) fn remove(&mut self, driver: &str, tenant: Option<&Tenant>) {
        let Some(of_driver) = self.by_driver.get_mut(driver) else {
            return;
        };
        let was_there = match tenant {
            None => std::mem::take(&mut of_driver.of_all),
            Some(tenant) => of_driver.of_one.remove(tenant),
        };
        self.len -= usize::from(was_there);
        if !of_driver.of_all && of_driver.of_one.is_empty() {
            self.by_driver.remove(driver);
        }
    }

    /// Removes those of a driver, whoever's they are.
    pub(super) fn remove_driver(&mut self, driver: &str) {
        if let Some(of_driver) = self.by_driver.remove(driver) {
            self.len -= usize::from(of_driver.of_all) + of_driver.of_one.len();
        }
    }

    /// Removes those of all tenants, and those of these tenants.
    pub(super) fn remove_tenants(&mut self, tenants: &HashSet<Tenant>) {
        let len = &mut self.len;
        self.by_driver.retain(|_, of_driver| {
            *len -= usize::from(std::mem::take(&mut of_driver.of_all));
            of_driver.of_one.retain(|tenant| {
                let stays = !tenants.contains(tenant);
                *len -= usize::from(!stays);
                stays
            });
            !of_driver.of_one.is_empty()
        });
    }

    pub(super) fn contains(&self, driver: &str, tenant: Option<&Tenant>) -> bool {
        self.by_driver
            .get(driver)
            .is_some_and(|of_driver| match tenant {
                None => of_driver.of_all,
                Some(tenant) => of_driver.of_one.contains(tenant),
            })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Queue> {
        self.by_driver.into_iter().flat_map(|(driver, of_driver)| {
            let of_all = of_driver.of_all.then_some(None);
            let of_one = of_driver.of_one.into_iter().map(Some);
            let tenants = of_all.into_iter().chain(of_one);
            tenants.map(move |tenant| Queue {
                driver: driver.clone(),
                tenant,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(driver: &str, tenant: Option<&str>) -> Queue {
        Queue {
            driver: driver.into(),
            tenant: tenant.map(Tenant::new),
        }
    }

    fn filled() -> Queues {
        let mut queues = Queues::default();
        for driver in ["d", "e"] {
            for tenant in [None, Some("acme"), Some("globex"), Some("acme")] {
                queues.insert(queue(driver, tenant));
            }
        }
        queues
    }

    fn left(queues: Queues) -> Vec<Queue> {
        let len = queues.len();
        let mut left: Vec<Queue> = queues.into_iter().collect();
        left.sort_unstable();
        assert_eq!(left.len(), len);
        left
    }

    #[test]
    fn each_is_in_it_once_and_by_itself() {
        let mut queues = filled();
        assert_eq!(queues.len(), 6);
        let acme = Tenant::new("acme");
        assert!(queues.contains("d", None) && queues.contains("d", Some(&acme)));
        queues.remove("d", None);
        queues.remove("d", None);
        assert!(!queues.contains("d", None) && queues.contains("d", Some(&acme)));
        queues.remove("d", Some(&acme));
        assert!(!queues.contains("d", Some(&acme)) && queues.contains("e", Some(&acme)));
        assert!(!queues.contains("f", None));
        queues.remove_driver("e");
        queues.remove_driver("f");
        assert_eq!(left(queues), [queue("d", Some("globex"))]);
    }

    #[test]
    fn those_of_all_go_with_those_of_some() {
        let mut queues = filled();
        queues.remove_tenants(&HashSet::from([Tenant::new("acme")]));
        let globex = Some("globex");
        assert_eq!(left(queues), [queue("d", globex), queue("e", globex)]);
        let mut queues = filled();
        queues.clear();
        assert_eq!(left(queues), []);
    }
}
